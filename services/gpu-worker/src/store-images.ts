/** From pixels to stored files: encoding, upload, and taking back what nobody asks for any more. Runs in the worker's main process. */
import { createHash } from 'node:crypto'
import type { Logger } from 'pino'
import { imageKey } from '@easel/contract'
import type { Provenance, StoredImage } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { putWithRetry } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { describeImage } from './describe-image.ts'
import { contentTypes, encodeImage } from './encode-image.ts'
import type { EngineImage } from './engine/protocol.ts'
import { imageSeed } from './to-engine-params.ts'

export interface ImageStore {
  storage: Storage
  /** What pictures are made with here: written into files, and how files are encoded. */
  provenance: Provenance
  /** How long uploads are tried again, in ms. */
  uploadRetryMs: number
}

const defaultQuality = 90

export interface StoredImages {
  images: StoredImage[]
  /** Of all files together. */
  bytes: number
}

/** Resolves when all files are there; rejects with the signal's reason or a StorageError. */
export async function storeImages(
  { storage, provenance, uploadRetryMs }: ImageStore,
  { id, input }: JobRecord,
  images: readonly EngineImage[],
  { signal, logger }: { signal: AbortSignal; logger: Logger },
): Promise<StoredImages> {
  const { output_format: format, output_quality: quality = defaultQuality } = input
  const { png_compression_level: pngCompressionLevel } = provenance.encoder
  const contentType = contentTypes[format]
  let total = 0
  const store = async (image: EngineImage): Promise<StoredImage> => {
    const description = describeImage(input, image.index, provenance)
    const bytes = await encodeImage(image, { format, pngCompressionLevel, quality, description })
    const key = imageKey(id, image.index, format)
    const onRetry = ({ error, attempt, delayMs }: { error: unknown; attempt: number; delayMs: number }): void =>
      logger.warn({ err: error, key, attempt, delayMs }, 'upload will be tried again')
    await putWithRetry(storage, key, bytes, { contentType }, { signal, retryForMs: uploadRetryMs, onRetry })
    logger.info({ key, bytes: bytes.length }, 'image saved')
    total += bytes.length
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const { width, height } = image
    return { key, width, height, seed: imageSeed(input.seed, image.index), sha256, content_type: contentType }
  }
  const stored = await Promise.all(images.map(store))
  return { images: stored, bytes: total }
}

/** A cancel was accepted while the pictures were being stored: nobody will ask for them. What cannot be deleted is left to the sweep. */
export async function deleteImages(storage: Storage, { id, input }: JobRecord, logger: Logger): Promise<void> {
  const keys = Array.from({ length: input.num_images_per_prompt }, (_, n) => imageKey(id, n, input.output_format))
  for (const [key, error] of await storage.deleteMany(keys)) logger.warn({ err: error, key }, 'image was not deleted')
}
