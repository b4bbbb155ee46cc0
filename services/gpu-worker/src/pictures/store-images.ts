/**
 * Turns pixels into stored files: encodes and uploads pictures and thumbnails, and removes those of canceled jobs.
 * Encoding runs on libvips' threads, so neither the event loop nor the device waits for it. Runs in the worker's main process.
 */
import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import { imageKey, thumbnailKey, toImageKeys } from '@easel/contract'
import type { Provenance, StoredImage } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { imageSeed } from '@easel/pipeline/image-seeds'
import { putWithRetry } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { describeImage } from './describe-image.ts'
import { contentTypes, encodeImage, encodeThumbnail } from './encode-image.ts'
import type { EngineImage } from '../engine/protocol.ts'

export interface ImageStore {
  storage: Storage
  /** For how long uploads are retried, in ms. */
  uploadRetryMs: number
}

export interface StoreOptions {
  /** What the pictures were made with, which is written into the files, and how the files are encoded. */
  provenance: Provenance
  signal: AbortSignal
  logger: Logger
}

const defaultQuality = 90

export interface StoredImages {
  images: StoredImage[]
  /** The size of all files together. */
  bytes: number
}

/**
 * Resolves when all files are stored; rejects with the signal's reason or a StorageError, but only once no write is under way, so that a
 * deletion after it finds everything.
 */
export async function storeImages(
  { storage, uploadRetryMs }: ImageStore,
  { id, input }: JobRecord,
  images: readonly EngineImage[],
  { provenance, signal, logger }: StoreOptions,
): Promise<StoredImages> {
  const { output_format: format, output_quality: quality = defaultQuality } = input
  const { png_compression_level: pngCompressionLevel } = provenance.encoder
  const contentType = contentTypes[format]
  let total = 0
  const put = async (key: string, bytes: Buffer, type: string): Promise<void> => {
    const onRetry = ({ error, attempt, delayMs }: { error: unknown; attempt: number; delayMs: number }): void =>
      logger.warn({ err: error, key, attempt, delayMs }, 'upload will be tried again')
    await putWithRetry(storage, key, bytes, { contentType: type }, { signal, retryForMs: uploadRetryMs, onRetry })
    logger.info({ key, bytes: bytes.length }, 'image saved')
    total += bytes.length
  }
  const store = async (image: EngineImage): Promise<StoredImage> => {
    const { index, width, height } = image
    const description = describeImage(input, index, provenance)
    const [bytes, thumbnail] = await Promise.all([
      encodeImage(image, { format, pngCompressionLevel, quality, description }),
      encodeThumbnail(image, description),
    ])
    const key = imageKey(id, index, format)
    // A picture that is no larger than a thumbnail is its own thumbnail.
    const small = thumbnail === undefined ? key : thumbnailKey(id, index)
    const puts = [put(key, bytes, contentType)]
    if (thumbnail !== undefined) puts.push(put(small, thumbnail, contentTypes.webp))
    await whenAllEnded(puts)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { key, thumbnail_key: small, width, height, seed: imageSeed(input.seed, index), sha256, content_type: contentType }
  }
  const stored = await whenAllEnded(images.map(store))
  return { images: stored, bytes: total }
}

/** Like `Promise.all`, except that it rejects only when all others have ended too. */
async function whenAllEnded<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises)
  return await Promise.all(promises)
}

/** Deletes the pictures of a job that was canceled while they were being stored. Those that cannot be deleted are left to the sweep. */
export async function deleteImages(storage: Storage, record: JobRecord, logger: Logger): Promise<void> {
  for (const [key, error] of await storage.deleteMany(toImageKeys(record))) logger.warn({ err: error, key }, 'image was not deleted')
}
