/** Files, receipts and replays with a real worker: the file is what was asked for, and a replay makes the same bytes. */
import { createHash } from 'node:crypto'
import { copyFile, cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'
import { startWorkerProcess } from './start-process.ts'
import type { ServiceProcess } from './start-process.ts'

let api: TestApi
let worker: ServiceProcess
let lorasDir: string

beforeAll(async () => {
  api = await startTestApi({ model: null })
  lorasDir = await mkdtemp(join(tmpdir(), 'easel-loras-'))
  await cp(fileURLToPath(new URL('../../../packages/pipeline/test/loras', import.meta.url)), lorasDir, { recursive: true })
  worker = await startWorker()
})
afterAll(async () => {
  await stopWorker()
  await api.close()
  await rm(lorasDir, { recursive: true, force: true })
})

function startWorker(env: Record<string, string> = {}): Promise<ServiceProcess> {
  const models = fileURLToPath(new URL('../../../models', import.meta.url))
  const variables = {
    MODELS_DIR: models,
    LORAS_DIR: lorasDir,
    DEVICE: 'cpu',
    SHUTDOWN_GRACE: '1',
    STORAGE: 'local',
    STORAGE_DIR: api.storageDir,
    ...env,
  }
  return startWorkerProcess({ REDIS_URL: api.redis.url, ...variables })
}

async function stopWorker(): Promise<void> {
  worker.child.kill('SIGTERM')
  await worker.ended
}

const small = { prompt: 'ein rotes Boot, 赤い船', negative_prompt: 'a box', width: 64, height: 64, num_inference_steps: 4, seed: 42 }
const waiting = { Prefer: 'wait=60' }

async function ended(response: Response): Promise<Job> {
  const job = (await response.json()) as Job
  expect([response.status, job.status, job.error]).toEqual([200, 'succeeded', null])
  return job
}
const make = async (body: Record<string, unknown>): Promise<Job> => ended(await api.post('/v1/jobs', { ...small, ...body }, waiting))
const replay = async ({ id }: Job): Promise<Job> => ended(await api.get(`/v1/jobs/${id}/replay`, { method: 'POST', headers: waiting }))

async function fetchImage(job: Job, n = 0): Promise<{ type: string | null; file: Buffer }> {
  const response = await fetch(job.output?.images[n]?.url ?? '')
  expect(response.status).toBe(200)
  return { type: response.headers.get('content-type'), file: Buffer.from(await response.arrayBuffer()) }
}

describe.for([
  { output_format: 'png', extension: 'png' },
  { output_format: 'jpeg', extension: 'jpg', output_quality: 80 },
  { output_format: 'webp', extension: 'webp', output_quality: 80 },
])('a job for $output_format', ({ extension, ...wanted }) => {
  test('has files with its extension and its type, and replayed it makes the same bytes', async () => {
    const job = await make({ ...wanted, num_images_per_prompt: 2 })
    for (const [n, image] of (job.output?.images ?? []).entries()) {
      const { type, file } = await fetchImage(job, n)
      expect(image.url).toBe(`${api.url}/images/${job.id}-${n}.${extension}`)
      expect([type, image.content_type]).toEqual([`image/${wanted.output_format}`, `image/${wanted.output_format}`])
      const { format, width, height, xmpAsString } = await sharp(file).metadata()
      expect([format, width, height]).toEqual([wanted.output_format, 64, 64])
      expect(xmpAsString).toContain('/trainedAlgorithmicMedia')
      expect(job.receipt?.images[n]).toEqual({ seed: 42 + n, sha256: createHash('sha256').update(file).digest('hex') })
    }
    const [again, other] = await Promise.all([replay(job), make({ ...wanted, seed: 5 })])
    expect(again.replay).toEqual({ of: job.id, identical: true, note: null })
    expect(again.receipt).toEqual(job.receipt)
    expect((await fetchImage(again, 1)).file.equals((await fetchImage(job, 1)).file)).toBe(true)
    // Another seed makes other bytes, so the comparison would notice a difference.
    expect(other.receipt?.images[0]?.sha256).not.toBe(job.receipt?.images[0]?.sha256)
  })
})

test.for(['jpeg', 'webp'])('a higher quality of %s makes a larger file of the same picture', async (output_format) => {
  const jobs = await Promise.all([10, 95].map((output_quality) => make({ output_format, output_quality })))
  const files = await Promise.all(jobs.map(async (job) => (await fetchImage(job)).file))
  expect(files[1]?.length).toBeGreaterThan(files[0]?.length ?? Infinity)
})

test('the receipt names the model by its content, the runtime with its version, and the scheduler', async () => {
  const { receipt } = await make({})
  expect(receipt).toMatchObject({
    model: { id: 'tiny-scenes', content_hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
    runtime: expect.stringMatching(/^onnxruntime-node \d+\.\d+\.\d+/),
    provider: 'cpu',
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model,
    scheduler: { class: 'FlowMatchEulerDiscreteScheduler', config: { shift: expect.any(Number) } },
    encoder: { name: expect.stringMatching(/^sharp \d.*, libvips \d/), png_compression_level: 6, metadata: 'full' },
  })
})

test('the receipt of a job with LoRAs has the hashes of their files; replayed, the job makes the same bytes unless a file has been replaced', async () => {
  const chosen = [
    { id: 'wobble', scale: 0.5 },
    { id: 'tint', scale: -0.8 },
  ]
  const [job, plain] = await Promise.all([make({ loras: chosen }), make({})])
  const used = await Promise.all(
    chosen.map(async ({ id }) => {
      const file = await readFile(join(lorasDir, `${id}.safetensors`))
      return { id, sha256: createHash('sha256').update(file).digest('hex') }
    }),
  )
  expect(job.receipt).toMatchObject({ loras: used, parameters: { loras: chosen } })
  expect(job.receipt?.images[0]?.sha256).not.toBe(plain.receipt?.images[0]?.sha256)

  await stopWorker()
  worker = await startWorker()
  const again = await replay(job)
  expect(again.replay).toEqual({ of: job.id, identical: true, note: null })
  expect(again.receipt).toEqual(job.receipt)
  expect((await fetchImage(again)).file.equals((await fetchImage(job)).file)).toBe(true)

  await copyFile(join(lorasDir, 'wobble.safetensors'), join(lorasDir, 'tint.safetensors'))
  const other = await replay(job)
  expect(other.replay).toMatchObject({ of: job.id, identical: false, note: expect.stringContaining('tint') as string })
})

test('a replay by another worker process makes the same bytes; one that writes less into its files does not, and says why', async () => {
  const job = await make({ num_images_per_prompt: 3, guidance_interval: [0.1, 0.8] })
  await stopWorker()
  worker = await startWorker()
  expect((await replay(job)).replay).toEqual({ of: job.id, identical: true, note: null })

  await stopWorker()
  worker = await startWorker({ IMAGE_METADATA: 'none' })
  const bare = await replay(job)
  expect(bare.replay).toEqual({
    of: job.id,
    identical: false,
    note: 'Made differently. metadata in the files: was full, is none.',
  })
  const [told, silent] = [(await fetchImage(job)).file, (await fetchImage(bare)).file]
  expect([told.includes('Negative prompt: a box'), silent.includes('Negative prompt')]).toEqual([true, false])
  const pixels = (file: Buffer): Promise<Buffer> => sharp(file).raw().toBuffer()
  expect((await pixels(told)).equals(await pixels(silent))).toBe(true)
})
