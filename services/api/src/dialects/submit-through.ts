/**
 * How a dialect's request gets into the queue: through the same validation and the same submission as POST /v1/jobs, with errors that use the
 * dialect's names of fields.
 */
import type { Context } from 'hono'
import { ProblemError, createJobRequestSchema } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppEnv } from '../app-deps.ts'
import { toPublicPath } from '../public-url.ts'
import { submitJob } from '../jobs/submit-job.ts'
import type { SubmitRequest } from '../jobs/resolve-input.ts'
import type { SubmitNeeds } from '../jobs/submit-job.ts'
import { toFieldErrors } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'
import type { RefusalCode } from '../problems/refuse-fields.ts'
import type { DialectName } from './dialects.ts'

export interface SubmitThroughOptions {
  /** The service whose shape the webhook messages have. Default: this service. */
  dialect?: DialectName
  /** Fields that the client sent and that have no effect; the answer lists them. Default none. */
  ignored?: readonly string[]
  /** The dialect's name for a field of the request. Default: our own name. */
  rename?: (field: string) => string
}

export async function submitThrough(
  deps: SubmitNeeds,
  c: Context<AppEnv>,
  request: SubmitRequest,
  { dialect, ignored = [], rename = (field) => field }: SubmitThroughOptions = {},
): Promise<JobRecord> {
  const { owner, requestId } = c.var
  try {
    // Pictures that came in the request itself are not text and cannot be validated as such.
    const { image, mask, ...rest } = request
    const said = { ...rest, ...(typeof image === 'string' && { image }), ...(typeof mask === 'string' && { mask }) }
    const parsed = createJobRequestSchema.safeParse(said)
    if (!parsed.success) throw refuseFields(toFieldErrors(parsed.error, said))
    const judged: SubmitRequest = { ...parsed.data, image, mask }
    const context = { owner, requestId, dialect, idempotencyKey: c.req.header('idempotency-key') }
    const { record, replayed } = await submitJob(deps, judged, context)
    c.header('Location', toPublicPath(deps.config, `/v1/jobs/${record.id}`))
    if (replayed) c.header('Idempotency-Replayed', 'true')
    // A client may choose any name for a field, but a header may not contain every character.
    const told = ignored.filter((field) => /^[\w.-]{1,64}$/.test(field)).slice(0, 20)
    if (told.length > 0) c.header('X-Ignored-Fields', told.join(', '))
    return record
  } catch (error) {
    if (!(error instanceof ProblemError) || error.errors === undefined) throw error
    const errors = error.errors.map((one) => ({ ...one, field: rename(one.field) }))
    if (error.code === 'model_not_found') throw new ProblemError(error.code, error.message, { errors, cause: error })
    throw refuseFields(errors, error.code as RefusalCode)
  }
}
