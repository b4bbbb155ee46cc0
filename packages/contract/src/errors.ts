/**
 * The only tables of error codes. An HTTP error is an RFC 9457 problem made from a row of `problemTable`; a failed job carries a code from
 * `jobErrorTable`. Code never compares messages. Knows nothing about Hono or BullMQ.
 */
import { z } from 'zod'

export interface ProblemRow {
  /** HTTP status. */
  status: number
  /** Whether the same request may succeed later, unchanged. */
  retryable: boolean
  /** RFC 9457 `title`: one sentence, the same for every occurrence. */
  title: string
}

export const problemTable = {
  malformed_body: {
    status: 400,
    retryable: false,
    title: 'The body does not match its content type: expected valid JSON in UTF-8, or a form.',
  },
  unauthorized: { status: 401, retryable: false, title: 'A valid API key is required.' },
  not_found: { status: 404, retryable: false, title: 'There is nothing here.' },
  method_not_allowed: { status: 405, retryable: false, title: 'This method is not offered here.' },
  job_finished: { status: 409, retryable: false, title: 'The job has already ended.' },
  no_receipt: { status: 409, retryable: false, title: 'The job has no receipt: it has not succeeded.' },
  webhook_gone: { status: 409, retryable: false, title: 'The receiver of the job’s webhook answered 410, so it gets no more messages.' },
  expired: { status: 410, retryable: false, title: 'The job and its images are past their retention time.' },
  body_too_large: { status: 413, retryable: false, title: 'The body is larger than this server accepts.' },
  image_too_large: { status: 413, retryable: false, title: 'The picture has more bytes than this server accepts.' },
  unsupported_media_type: { status: 415, retryable: false, title: 'The body has a content type that is not accepted here.' },
  invalid_request: { status: 422, retryable: false, title: 'The request has fields that cannot be accepted.' },
  invalid_image: { status: 422, retryable: false, title: 'A picture that came with the request cannot be used.' },
  model_not_found: { status: 422, retryable: false, title: 'No model of that name is served here.' },
  lora_not_found: { status: 422, retryable: false, title: 'The model has no LoRA of that name.' },
  idempotency_mismatch: { status: 422, retryable: false, title: 'This Idempotency-Key was used with another request.' },
  rate_limited: { status: 429, retryable: true, title: 'Too many requests.' },
  queue_full: { status: 429, retryable: true, title: 'Too many jobs are waiting.' },
  deadline_unreachable: { status: 429, retryable: true, title: 'The queue is too long for the job to end by its deadline.' },
  internal: { status: 500, retryable: true, title: 'Something went wrong in this server.' },
  queue_unavailable: { status: 503, retryable: true, title: 'The job queue cannot be reached.' },
  no_worker: { status: 503, retryable: true, title: 'No worker has announced a model yet.' },
  storage_unavailable: { status: 503, retryable: true, title: 'The image store cannot be reached.' },
  stopping: { status: 503, retryable: true, title: 'This server is stopping.' },
  wait_timeout: { status: 504, retryable: true, title: 'The job did not end in the time this request may wait.' },
} as const satisfies Record<string, ProblemRow>

export type ProblemCode = keyof typeof problemTable

/** Why a job failed. `retryable`: whether the same job, submitted again, may succeed. */
export const jobErrorTable = {
  engine_crashed: { retryable: false, message: 'The engine crashed each time it ran this job.' },
  engine_hung: { retryable: true, message: 'The engine stopped answering each time it ran this job.' },
  out_of_memory: { retryable: true, message: 'The job needs more memory than the device has free.' },
  storage_unavailable: { retryable: true, message: 'The images were made but could not be stored.' },
  timeout: { retryable: true, message: 'The job ran longer than its timeout.' },
  expired: {
    retryable: true,
    message: 'The job was not started in time: its expires_in passed, or it could no longer meet its deadline.',
  },
  not_finite: {
    retryable: false,
    message: 'The model computed values that are not finite numbers: its weights are damaged, or they need a higher precision.',
  },
  internal: { retryable: true, message: 'The job failed for a reason inside the service.' },
} as const satisfies Record<string, { retryable: boolean; message: string }>

export type JobErrorCode = keyof typeof jobErrorTable

export const jobErrorCodes = Object.keys(jobErrorTable) as [JobErrorCode, ...JobErrorCode[]]

/** One refused field of a request. */
export const fieldErrorSchema = z.object({
  field: z.string().describe('Dotted path of the field, for example `sigmas.2`; empty for the body as a whole.'),
  expected: z.string().describe('What would have been accepted.'),
  received: z.string().describe('What came, shortened.'),
})
export type FieldError = z.infer<typeof fieldErrorSchema>

/** RFC 9457 problem+json as this service sends it. */
export const problemSchema = z
  .object({
    type: z.string().describe('`about:blank#` and the code.'),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(problemTable) as [ProblemCode, ...ProblemCode[]]),
    detail: z.string().optional(),
    retryable: z.boolean(),
    errors: z.array(fieldErrorSchema).optional().describe('One entry for each refused field; with codes that are about fields.'),
    request_id: z.string().optional(),
  })
  .meta({ id: 'Problem' })
export type Problem = z.infer<typeof problemSchema>

/** Thrown anywhere in a request; one place turns it into a response. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError'
  readonly code: ProblemCode
  readonly errors: readonly FieldError[] | undefined
  /** Seconds, sent as `Retry-After`. */
  readonly retryAfterSeconds: number | undefined
  /** The limit that was reached, sent as `RateLimit` and `RateLimit-Policy`: its name and its size. */
  readonly limit: { name: string; quota: number } | undefined

  constructor(
    code: ProblemCode,
    detail?: string,
    options: { errors?: readonly FieldError[]; retryAfterSeconds?: number; limit?: { name: string; quota: number }; cause?: unknown } = {},
  ) {
    super(detail ?? problemTable[code].title, { cause: options.cause })
    this.code = code
    this.errors = options.errors
    this.retryAfterSeconds = options.retryAfterSeconds
    this.limit = options.limit
  }
}
