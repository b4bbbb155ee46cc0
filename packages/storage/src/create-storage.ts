/**
 * Owns the choice between the drivers. Does no I/O; `check()` on the result does.
 */
import { LocalStorage, type LocalStorageOptions } from './local-storage.ts'
import { S3Storage, type S3StorageOptions } from './s3-storage.ts'
import type { Storage } from './storage.ts'

export type StorageOptions = ({ kind: 'local' } & LocalStorageOptions) | ({ kind: 's3' } & S3StorageOptions)

export function createStorage(options: StorageOptions): Storage {
  return options.kind === 'local' ? new LocalStorage(options) : new S3Storage(options)
}
