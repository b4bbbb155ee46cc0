/**
 * The way of a dialect's request into the queue: the same validator and the same submit as POST /v1/jobs, with errors that name fields as
 * the dialect does.
 */
import type { Context } from 'hono'
import { ProblemError, createJobRequestSchema } from '@easel/contract'
import type { DialectName, JobRecord } from '@easel/job-store'
import type { AppEnv } from '../app-deps.ts'
import { toPublicPath } from '../public-url.ts'
import { submitJob } from '../jobs/submit-job.ts'
import type { SubmitRequest } from '../jobs/resolve-input.ts'
import type { SubmitNeeds } from '../jobs/submit-job.ts'
import { toFieldErrors } from '../middleware/field-errors.ts'
import { refuseFields } from '../middleware/problem.ts'
import type { RefusalCode } from '../middleware/problem.ts'

export interface SubmitThroughOptions {
  /** Whose shape the webhook messages have. Default: this service's own. */
  dialect?: DialectName
  /** Fields that the client sent and that have no effect; it is told. Default: none. */
  ignored?: readonly string[]
  /** What the dialect calls a field of the request. Default: as this service does. */
  rename?: (field: string) => string
}

export async function submitThrough(
  deps: SubmitNeeds,
  c: Context<AppEnv>,
  request: SubmitRequest,
  { dialect, ignored = [], rename = (field) => field }: SubmitThroughOptions = {},
): Promise<JobRecord> {
  const { owner, requestId } = c.var
  const idempotencyKey = c.req.header('idempotency-key')
  try {
    // Pictures that came with the request itself are no text to be judged.
    const { image, mask, ...rest } = request
    const said = { ...rest, ...(typeof image === 'string' && { image }), ...(typeof mask === 'string' && { mask }) }
    const parsed = createJobRequestSchema.safeParse(said)
    if (!parsed.success) throw refuseFields(toFieldErrors(parsed.error, said))
    const judged: SubmitRequest = { ...parsed.data, image, mask }
    const context = { owner, requestId, dialect, ...(idempotencyKey !== undefined && { idempotencyKey }) }
    const { record, replayed } = await submitJob(deps, judged, context)
    c.header('Location', toPublicPath(deps.config, `/v1/jobs/${record.id}`))
    if (replayed) c.header('Idempotency-Replayed', 'true')
    // A client may call a field anything; a header may not.
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
