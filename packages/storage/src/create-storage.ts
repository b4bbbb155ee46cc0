/**
 * Owns the choice between the drivers. Does no I/O; `check()` on the result does.
 */
import { createLocalStorage, type LocalStorageOptions } from './local-storage.ts'
import { createS3Storage, type S3StorageOptions } from './s3-storage.ts'
import type { Storage } from './storage.ts'

export type StorageOptions = ({ kind: 'local' } & LocalStorageOptions) | ({ kind: 's3' } & S3StorageOptions)

export function createStorage(options: StorageOptions): Storage {
  return options.kind === 'local' ? createLocalStorage(options) : createS3Storage(options)
}
