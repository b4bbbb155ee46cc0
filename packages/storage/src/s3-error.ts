/**
 * Turns an S3 server's answer into a `StorageError`, by a table of names and statuses gathered from AWS, MinIO, RustFS, R2 and versitygw.
 *
 * Invariant: whatever the SDK throws, the result says whether trying again can help. A status alone is not trusted where servers differ:
 * versitygw answers a wrong access key with 404.
 */
import { StorageError, type StorageErrorCode } from './storage-error.ts'

const codesByName: Record<string, StorageErrorCode> = {
  InvalidAccessKeyId: 'denied',
  SignatureDoesNotMatch: 'denied',
  // The name that versitygw uses, with status 404.
  XAdminUserNotFound: 'denied',
  AccessDenied: 'denied',
  ExpiredToken: 'denied',
  QuotaExceeded: 'no_space',
  XMinioStorageFull: 'no_space',
  XMinioAdminBucketQuotaExceeded: 'no_space',
  InsufficientStorage: 'no_space',
  KeyTooLongError: 'invalid_key',
  XMinioInvalidObjectName: 'invalid_key',
  // The clocks differ; the SDK corrects its own from the answer before the next call.
  RequestTimeTooSkewed: 'unavailable',
}

/** Statuses below 500 after which the same request may succeed. 404 is for a bucket that `check` has not created yet. */
const retryableStatuses = new Set([404, 408, 409, 423, 425, 429])
const notImplemented = 501
const insufficientStorage = 507

/** The server's own name for the error (`NoSuchKey`), or the name of a client-side error (`TimeoutError`). */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : ''
}

/** The answer's HTTP status; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  // `$metadata` comes with errors that the server described; `$response` with other answers, such as a proxy's error page.
  const { $metadata, $response } = error as { $metadata?: { httpStatusCode?: number }; $response?: { statusCode?: number } }
  return $metadata?.httpStatusCode ?? $response?.statusCode
}

export function toStorageError(error: unknown, action: string): StorageError {
  if (error instanceof StorageError) return error
  const status = statusOf(error)
  const name = nameOf(error)
  const code = codesByName[name] ?? codeOfStatus(status)
  const detail = error instanceof Error && error.message !== '' && error.message !== name ? `: ${error.message}` : ''
  return new StorageError(code, `Could not ${action}: ${name}${status === undefined ? '' : ` (HTTP ${status})`}${detail}`, { cause: error })
}

function codeOfStatus(status: number | undefined): StorageErrorCode {
  if (status === undefined) return 'unavailable'
  if (status === insufficientStorage) return 'no_space'
  if (status === notImplemented) return 'denied'
  // A 2xx answer that the SDK could not read was cut short.
  if (status >= 500 || status < 300 || retryableStatuses.has(status)) return 'unavailable'
  return 'denied'
}
