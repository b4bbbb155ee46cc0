/**
 * Finds everything that is wrong with a request at once: even if one field has the wrong type, the others are checked against their model, so
 * that the user of a form sees all errors in one round. Runs in the api.
 */
import type { z } from '@hono/zod-openapi'
import { createJobRequestSchema } from '@easel/contract'
import type { FieldError } from '@easel/contract'
import { toFieldErrors } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'
import { lookUpModel } from './find-model.ts'
import type { FindModelOptions, ModelNeeds } from './find-model.ts'
import { checkRequest, resolveInput } from './resolve-input.ts'
import type { SubmitRequest } from './resolve-input.ts'

/** Fields that can only be checked together with another. */
const judgedWith: Record<string, string> = {
  mask: 'image',
  strength: 'image',
  fit: 'image',
  output_quality: 'output_format',
  skip_layer_guidance_scale: 'skip_guidance_layers',
  skip_layer_guidance_start: 'skip_guidance_layers',
  skip_layer_guidance_stop: 'skip_guidance_layers',
}

/** What the model would also refuse in a request that is refused already; nothing when the model is unknown or cannot be looked up. */
export async function judgeByModel(deps: ModelNeeds, request: SubmitRequest, options?: FindModelOptions): Promise<FieldError[]> {
  const model = await lookUpModel(deps, request.model ?? deps.config.defaultModel, options).catch(() => undefined)
  if (model === undefined) return []
  const resolved = resolveInput(request, model, deps.config)
  return 'errors' in resolved ? resolved.errors : []
}

/** Refuses a body with zod's errors, plus what is wrong with the fields that zod accepts. `body`: the parsed body. */
export async function refuseEveryField(deps: ModelNeeds, error: z.core.$ZodError, body: unknown): Promise<never> {
  const { shape } = createJobRequestSchema
  const errors = toFieldErrors(error, body, Object.keys(shape))
  const wrong = new Set(errors.map(({ field }) => field.split('.')[0]))
  const fields = Object.entries(typeof body === 'object' && body !== null ? body : {})
  const rest = fields.filter(([field]) => Object.hasOwn(shape, field) && !wrong.has(field))
  // Any prompt will do for checking the rest.
  const parsed = createJobRequestSchema.safeParse({ prompt: 'a', ...Object.fromEntries(rest) })
  if (parsed.success) {
    const byModel = wrong.has('model') ? [] : await judgeByModel(deps, parsed.data)
    const more = [...checkRequest(parsed.data, deps.config), ...byModel]
    errors.push(...more.filter(({ field }) => !wrong.has(field) && !wrong.has(judgedWith[field] ?? '')))
  }
  throw refuseFields(errors)
}
