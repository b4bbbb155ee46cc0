/**
 * A new dialect: POST /sdapi/v1/txt2img of AUTOMATIC1111's web api, for programs that speak it. One request makes pictures and is answered with
 * them as base64.
 *
 * To make it a part of Easel:
 * 1. services/api/src/dialects/sdapi/sdapi-routes.ts: this file, its imports relative, and a test beside it. The other dialects describe
 *    their routes with createRoute and zod, so that /openapi.json contains them.
 * 2. services/api/src/app.ts: `.route('/', sdapiRoutes(deps))` beside the other dialects.
 * 3. services/api/src/dialects/sdapi/errors.ts: its paths and the shape of its errors, in place of `onError` here; and an entry for both in
 *    services/api/src/dialects/dialects.ts, so that errors that arise before a route is reached (a wrong key, too many requests) have that
 *    shape too. If its webhook messages have a shape of their own, the entry names it, and `submitThrough` gets the entry's name as `dialect`.
 * 4. docs/dialects.md: what it accepts, and what it ignores.
 *
 * A dialect only translates names and shapes: `submitThrough` validates the request, fills in every default and queues the job, exactly
 * as POST /v1/jobs does; `waitForResult` waits for its end and cancels it when the caller disconnects.
 */
import { Hono } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { ProblemError, problemTable } from '@easel/contract'
import type { AppDeps, AppEnv } from '../../services/api/src/app-deps.ts'
import { readBase64 } from '../../services/api/src/dialects/read-base64.ts'
import { submitThrough } from '../../services/api/src/dialects/submit-through.ts'
import { waitForResult } from '../../services/api/src/dialects/wait-for-result.ts'
import { jsonBody } from '../../services/api/src/middleware/json-body.ts'
import { setRetryHeaders, toProblemError } from '../../services/api/src/middleware/problem.ts'

/** Fields of the dialect that mean the same as one of ours, with our names for them. */
const names = new Map([
  ['prompt', 'prompt'],
  ['negative_prompt', 'negative_prompt'],
  ['seed', 'seed'],
  ['steps', 'num_inference_steps'],
  ['cfg_scale', 'guidance_scale'],
  ['width', 'width'],
  ['height', 'height'],
  ['batch_size', 'num_images_per_prompt'],
])
const ownNames = new Map([...names].map(([theirs, ours]) => [ours, theirs]))

/** What its clients send for "any seed". */
const anySeed = -1

export function sdapiRoutes(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>()

  app.onError((error, c) => {
    const problem = toProblemError(error, c)
    setRetryHeaders(c, problem)
    const body = { error: problem.code, detail: problem.message, errors: problem.errors ?? [] }
    return c.json(body, problemTable[problem.code].status as ContentfulStatusCode)
  })

  app.post('/sdapi/v1/txt2img', jsonBody(deps.config.maxBodyBytes), async (c) => {
    const { request, ignored } = toRequest(await c.req.json())
    const rename = (field: string): string => ownNames.get(field) ?? field
    // The fields are validated there, by the schema of POST /v1/jobs.
    const record = await submitThrough(deps, c, request as { prompt: string }, { ignored, rename })
    const ended = await waitForResult(deps, c, record)
    if (ended.status !== 'succeeded') {
      return c.json({ error: ended.error?.code ?? ended.status, detail: ended.error?.message ?? 'The job was canceled.', errors: [] }, 500)
    }
    const stored = ended.output?.images ?? []
    const images = await Promise.all(stored.map(async (image) => await readBase64(deps, image)))
    const { prompt, negative_prompt, width, height, num_inference_steps: steps, guidance_scale: cfg_scale, seed } = ended.input
    const info = { prompt, negative_prompt, width, height, steps, cfg_scale, seed, all_seeds: stored.map((image) => image.seed) }
    return c.json({ images, parameters: info, info: JSON.stringify(info) })
  })
  return app
}

/** The request under our names, and the fields that have no effect here, of which such clients send dozens. */
function toRequest(body: unknown): { request: Record<string, unknown>; ignored: string[] } {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ProblemError('invalid_request', 'Expected a JSON object with a prompt.')
  }
  const given = Object.entries(body).filter(([field, value]) => value !== null && !(field === 'seed' && value === anySeed))
  const known = given.flatMap(([field, value]) => {
    const name = names.get(field)
    return name === undefined ? [] : [[name, value]]
  })
  return {
    request: Object.fromEntries(known) as Record<string, unknown>,
    ignored: given.flatMap(([field]) => (names.has(field) ? [] : [field])),
  }
}
