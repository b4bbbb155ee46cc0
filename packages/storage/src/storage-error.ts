/**
 * Owns the one error that the drivers throw: what went wrong with the store, as a code, and whether the same call can succeed later.
 *
 * Invariant: callers decide by `code` and `retryable`, never by the message; the driver's own error is the `cause`.
 */

/**
 * - `unavailable`: the store did not answer, answered too late, or failed on its side.
 * - `no_space`: the disk, quota or bucket is full.
 * - `denied`: the store answered and refuses: credentials, permissions, read-only disk, settings it does not support.
 * - `invalid_key`: the key is invalid (see `assertObjectKey`); the store was not called.
 */
export type StorageErrorCode = 'unavailable' | 'no_space' | 'denied' | 'invalid_key'

/** Space can be freed and servers come back; a refusal stays until the configuration is changed. */
const retryableCodes: Record<StorageErrorCode, boolean> = { unavailable: true, no_space: true, denied: false, invalid_key: false }

export class StorageError extends Error {
  override readonly name = 'StorageError'
  readonly code: StorageErrorCode
  /** Whether the same call can succeed later without a change of the configuration. */
  readonly retryable: boolean

  constructor(code: StorageErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
    this.retryable = retryableCodes[code]
  }
}
