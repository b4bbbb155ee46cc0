/**
 * fal's storage as its client uses it: the client asks where to send a file, sends it there without a key, and gives the resulting URL as the
 * input of a request. The file becomes an upload like any other.
 */
import { randomUUID } from 'node:crypto'
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError } from '@easel/contract'
import type { Api, AppEnv } from '../../app-deps.ts'
import { createUpload } from '../../inputs/create-upload.ts'
import type { UploadNeeds } from '../../inputs/create-upload.ts'
import { describePicture } from '../../inputs/describe-picture-body.ts'
import { withPlace } from '../../inputs/picture-places.ts'
import { readFile } from '../../inputs/read-picture-body.ts'
import { jsonBody } from '../../middleware/json-body.ts'
import { refuseInvalid } from '../../middleware/problem.ts'
import { toPublicUrl } from '../../public-url.ts'
import { describeErrors } from '../describe-routes.ts'
import { falErrorSchema } from './errors.ts'

const tags = ['fal']
/** How long after asking, or after its last attempt, a client may send the file. */
const ticketSeconds = 600
const { refusals, absences } = describeErrors(falErrorSchema)

export function falStorageRoutes(deps: UploadNeeds) {
  const { config, inputs } = deps
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })

  const initiate = createRoute({
    method: 'post',
    path: '/fal/rest/storage/upload/initiate',
    tags,
    summary: 'Ask where a file may be sent (fal)',
    middleware: jsonBody(config.maxBodyBytes),
    request: {
      body: {
        required: true,
        content: {
          'application/json': { schema: z.looseObject({ content_type: z.string().optional(), file_name: z.string().optional() }) },
        },
      },
    },
    responses: {
      200: {
        description: '`upload_url` takes one file by PUT, which may be repeated until it succeeds; requests use `file_url`.',
        content: { 'application/json': { schema: z.object({ upload_url: z.string(), file_url: z.string() }) } },
      },
      ...refusals,
    },
  })
  const withInitiate = app.openapi(initiate, async (c) => {
    const [id, ticket] = [randomUUID(), randomUUID()]
    await inputs.putTicket(ticket, { id, owner: c.var.owner }, ticketSeconds)
    const publicUrl = toPublicUrl(config)
    return c.json({ upload_url: `${publicUrl}/fal/storage/${ticket}`, file_url: `${publicUrl}/v1/uploads/${id}` }, 200)
  })

  const put = createRoute({
    method: 'put',
    path: '/fal/storage/{ticket}',
    tags,
    summary: 'Send a file (fal)',
    security: [],
    request: { params: z.object({ ticket: z.string().max(100) }), body: { required: true, content: describePicture() } },
    responses: {
      200: { description: 'The file is kept.', content: { 'application/json': { schema: z.object({ sha256: z.string() }) } } },
      ...refusals,
      ...absences,
    },
  })
  return withInitiate.openapi(put, async (c) => {
    const { ticket } = c.req.valid('param')
    const upload = await inputs.renewTicket(ticket, ticketSeconds)
    if (upload === undefined) throw new ProblemError('not_found', 'No upload was announced for this URL, or a file has already been sent.')
    const { id, owner } = upload
    const { sha256 } = await withPlace(owner, async () => {
      const bytes = await readFile(c.req, { maxBytes: config.maxInputBytes, field: 'file' })
      return await createUpload(deps, bytes, { owner, field: 'file', announced: { ticket, id } })
    })
    return c.json({ sha256 }, 200)
  })
}
