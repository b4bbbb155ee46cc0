/** The files that a job's pictures become, in a real folder. */
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { imageKey, thumbnailKey } from '@easel/contract'
import type { Provenance } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { createStorage } from '@easel/storage'
import type { Storage } from '@easel/storage'
import type { EngineImage } from '../engine/protocol.ts'
import { deleteImages, storeImages } from './store-images.ts'
import type { StoredImages } from './store-images.ts'

const provenance = { encoder: { name: 'sharp', png_compression_level: 6, metadata: 'none' } } as Provenance
const logger = pino({ level: 'silent' })

let dir: string
let storage: Storage
let jobs = 0
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'easel-store-images-'))
  storage = createStorage({ kind: 'local', dir })
})
afterAll(async () => {
  await storage.close()
  await rm(dir, { recursive: true, force: true })
})

function newJob(): JobRecord {
  const id = `0197a1b2-c3d4-7abc-8def-${String(++jobs).padStart(12, '0')}`
  return { id, input: { seed: 1, output_format: 'png', num_images_per_prompt: 2 } } as JobRecord
}

/** Pictures of these sizes, each with a bright left half. */
async function store(job: JobRecord, ...sizes: [width: number, height: number][]): Promise<StoredImages> {
  const images = sizes.map(([width, height], index): EngineImage => {
    const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => (Math.floor(i / 3) % width < width / 2 ? 250 : 5))
    return { index, width, height, rgb }
  })
  return await storeImages({ storage, uploadRetryMs: 0 }, job, images, { provenance, signal: new AbortController().signal, logger })
}

const filesOf = async ({ id }: JobRecord): Promise<string[]> =>
  (await readdir(join(dir, 'images'))).filter((name) => name.startsWith(id)).map((name) => `images/${name}`)

test('a large picture gets a thumbnail beside it, a small one is its own thumbnail, and the bytes of all files are counted', async () => {
  const job = newJob()
  const { images, bytes } = await store(job, [768, 512], [384, 128])
  const [large, small] = [0, 1].map((n) => imageKey(job.id, n))
  expect(images).toMatchObject([
    { key: large, thumbnail_key: thumbnailKey(job.id, 0), width: 768, height: 512, content_type: 'image/png' },
    { key: small, thumbnail_key: small, width: 384, height: 128, content_type: 'image/png' },
  ])
  const keys = (await filesOf(job)).toSorted((a, b) => a.localeCompare(b))
  expect(keys).toEqual([large, thumbnailKey(job.id, 0), small])
  const files = await Promise.all(keys.map((key) => readFile(join(dir, key))))
  expect(bytes).toBe(files.reduce((sum, { length }) => sum + length, 0))

  const { data, info } = await sharp(files[1]).raw().toBuffer({ resolveWithObject: true })
  expect([info.width, info.height]).toEqual([384, 256])
  expect(data[0]).toBeGreaterThan(240)
  expect(data.at(-1)).toBeLessThan(20)
})

test('the pictures of a job are deleted together with their thumbnails', async () => {
  const job = newJob()
  await store(job, [512, 64], [64, 64])
  expect(await filesOf(job)).toHaveLength(3)
  await deleteImages(storage, job, logger)
  expect(await filesOf(job)).toEqual([])
})

test('a thumbnail that cannot be stored is a failure, so that no record names an object that does not exist', async () => {
  const job = newJob()
  // A folder where the thumbnail should be.
  await mkdir(join(dir, thumbnailKey(job.id, 0)), { recursive: true })
  await expect(store(job, [512, 64])).rejects.toMatchObject({ name: 'StorageError' })
  expect((await store(job, [64, 64])).images).toHaveLength(1)
})
