/**
 * Loads the pictures that a job begins with from the store, where the api put them before the job was queued, and brings them to the job's
 * size. Runs in the worker's main process.
 */
import type { Logger } from 'pino'
import { inputKey } from '@easel/contract'
import type { InputPicture, JobInput } from '@easel/contract'
import { fitMask, fitPicture } from '@easel/input-pictures'
import { readWithRetry } from '@easel/storage'
import type { Storage } from '@easel/storage'
import type { StartFromPicture } from '../engine/protocol.ts'

export interface InputStore {
  storage: Storage
  /** How long reads are retried, in ms. */
  uploadRetryMs: number
}

/** Undefined for a job that begins from noise alone. Rejects with the signal's reason or a StorageError. */
export async function loadStart(
  store: InputStore,
  { image, mask, strength, fit, width, height }: JobInput,
  { signal, logger }: { signal: AbortSignal; logger: Logger },
): Promise<StartFromPicture | undefined> {
  if (image === undefined || strength === undefined || fit === undefined) return undefined
  const frame = { width, height, fit }
  const read = async ({ sha256 }: InputPicture): Promise<Buffer> => {
    const key = inputKey(sha256)
    const onRetry = ({ error, attempt, delayMs }: { error: unknown; attempt: number; delayMs: number }): void =>
      logger.warn({ err: error, key, attempt, delayMs }, 'input picture will be read again')
    const bytes = await readWithRetry(store.storage, key, { signal, retryForMs: store.uploadRetryMs, onRetry })
    if (bytes === undefined) throw new Error(`Expected the input picture ${key} in the store, got nothing`)
    return bytes
  }
  const [picture, painted] = await Promise.all([
    read(image).then((file) => fitPicture(file, frame)),
    mask && read(mask).then((file) => fitMask(file, image, frame)),
  ])
  signal.throwIfAborted()
  return { image: picture, mask: painted, strength }
}
