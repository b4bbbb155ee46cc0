/** The client of an Easel service: `fetch` and no dependency, for browsers, Node, Deno and Bun. */
export { Easel } from './easel.ts'
export type { CreateJob, CreateOptions, EaselOptions, InputPictureSource, ListOptions, PageOptions } from './easel.ts'
export type { CanceledJob, EndedJob, FailedJob, SucceededJob } from './ended-job.ts'
export {
  AuthenticationError,
  ConflictError,
  ConnectionError,
  EaselError,
  InvalidRequestError,
  JobCanceledError,
  JobFailedError,
  NotFoundError,
  RateLimitError,
  ServerError,
  WebhookVerificationError,
} from './errors.ts'
export type { ErrorCode } from './errors.ts'
export type { FollowedEvent } from './follow-job.ts'
export type { Images } from './images.ts'
export type { RequestOptions } from './request-sender.ts'
export { verifyWebhook } from './verify-webhook.ts'
export type { VerifyWebhookOptions, WebhookMessage } from './verify-webhook.ts'
export type { Capabilities, FieldError, Image, Job, JobError, JobList, JobStatus, Upload, Usage, WebhookBody } from '@easel/contract'
