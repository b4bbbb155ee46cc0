import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Queue } from 'bullmq'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { webhookQueueName } from '@easel/contract'
import type { JobInput, WebhookJobData } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import { captureLog } from '../../test/log-capture.ts'
import { endlessInput, openWorkerBench, pictures, toPixels } from '../../test/worker-bench.ts'
import type { WorkerBench } from '../../test/worker-bench.ts'

const golden = new URL('../../../../packages/pipeline/test/golden/pipeline/', import.meta.url)

describe('a job', () => {
  let bench: WorkerBench
  beforeAll(async () => {
    bench = await openWorkerBench()
    await bench.startWorker()
  })
  afterAll(async () => bench?.close())

  test('becomes the picture that diffusers makes from the same input, stored under its key and with its hash', async () => {
    const id = await bench.submit({ width: 128, height: 128, num_inference_steps: 20 })
    const record = await bench.untilEnded(id)
    expect(record.error).toBeUndefined()
    expect(record).toMatchObject({ status: 'succeeded', progress: { step: 20, total: 20 }, runs: 1, strikes: 0 })
    const [image] = record.output?.images ?? []
    const file = await readFile(join(bench.dir, image?.key ?? ''))
    expect(image).toEqual({
      key: `images/${id}-0.png`,
      // It is small enough to be its own thumbnail.
      thumbnail_key: `images/${id}-0.png`,
      width: 128,
      height: 128,
      seed: 42,
      content_type: 'image/png',
      sha256: createHash('sha256').update(file).digest('hex'),
    })
    const [ours, theirs] = await Promise.all([toPixels(file), toPixels(await readFile(new URL('boat.png', golden)))])
    const worst = ours.reduce((max, value, at) => Math.max(max, Math.abs(value - (theirs[at] ?? 0))), 0)
    expect(worst).toBeLessThanOrEqual(1)
  })

  test('records the number of bytes of its pictures', async () => {
    const record = await bench.untilEnded(await bench.submit({ num_images_per_prompt: 2, output_format: 'jpeg' }))
    const files = await Promise.all((record.output?.images ?? []).map(({ key }) => readFile(join(bench.dir, key))))
    expect(files).toHaveLength(2)
    const bytes = files.reduce((sum, { length }) => sum + length, 0)
    expect(await bench.redis.hget(bench.store.keys.job(record.id), 'bytes')).toBe(String(bytes))
  })

  test('has previews in its events on request, small JPEGs that resemble the picture', async () => {
    const input = { width: 128, height: 128, num_inference_steps: 20 }
    // The first such job of an engine may end before the projection is fitted.
    await bench.untilEnded(await bench.submit({ ...input, num_inference_steps: 100 }, { previewEvery: 1 }))
    const record = await bench.untilEnded(await bench.submit(input, { previewEvery: 5 }))
    const previews = (await bench.store.readEvents(record.id, '0')).filter((event) => event.type === 'preview')
    // Only the latest of each image stays, and there is none after the last step.
    expect(previews.map(({ image, step }) => [image, step])).toEqual([[0, 15]])
    const [header, base64 = ''] = previews[0]?.data_url.split(',') ?? []
    expect(header).toBe('data:image/jpeg;base64')
    const preview = await toPixels(Buffer.from(base64, 'base64'))
    const picture = await sharp(await bench.pixels(record), { raw: { width: 128, height: 128, channels: 3 } })
      .resize(16, 16)
      .raw()
      .toBuffer()
    expect(correlation(preview, picture)).toBeGreaterThan(0.8)
  })

  test('queues webhook messages about its start and its progress, each once, if its webhook wants them', async () => {
    const messages = new Queue<WebhookJobData>(webhookQueueName, { connection: bench.redis, prefix: '{test}' })
    const webhook = 'https://example.com/hook'
    const quiet = await bench.untilEnded(await bench.submit({}, { webhook }))
    const told = await bench.submit(endlessInput, { webhook, webhookEventsFilter: ['started', 'progress'] })
    const messagesOf = async (id: string): Promise<string[]> =>
      (await messages.getJobs(['waiting', 'delayed'])).flatMap(({ data }) => (data.jobId === id ? [data.event] : [])).toSorted()
    await expect.poll(() => messagesOf(told)).toEqual(['progress', 'started'])
    const { progress } = (await bench.store.get(told)) as JobRecord
    await bench.until(told, ({ progress: { step } }) => step > progress.step)
    await bench.store.requestCancel(told)
    await bench.untilEnded(told)
    expect(await messagesOf(told)).toEqual(['progress', 'started'])
    expect(await messagesOf(quiet.id)).toEqual([])
    await messages.close()
  })

  test.for([
    ['jpeg', 'jpg', 'image/jpeg'],
    ['webp', 'webp', 'image/webp'],
  ] as const)('is stored as %s on request', async ([format, extension, contentType]) => {
    const record = await bench.untilEnded(await bench.submit({ output_format: format, output_quality: 80 }))
    expect(record.output?.images[0]).toMatchObject({ key: `images/${record.id}-0.${extension}`, content_type: contentType })
    expect(await sharp(await readFile(join(bench.dir, record.output?.images[0]?.key ?? ''))).metadata()).toMatchObject({ format })
  })

  test('that was canceled or expired while it waited is not run', async () => {
    const expired = await bench.submit({}, { expiresAt: Date.now() - 1 })
    expect(await bench.untilEnded(expired)).toMatchObject({ status: 'failed', error: { code: 'expired' }, runs: 0 })
    const canceled = await bench.submit({ num_inference_steps: 20 })
    await bench.store.requestCancel(canceled)
    expect(await bench.untilEnded(canceled)).toMatchObject({ status: 'canceled', output: undefined })
  })

  test('with guidance on part of the run differs from one with guidance on all of it', async () => {
    const inputs = [{ guidance_interval: [0, 0.5] }, { guidance_interval: [0, 1] }, {}] satisfies Partial<JobInput>[]
    const pixelsOf = async (input: Partial<JobInput>): Promise<Buffer> => bench.pixels(await bench.untilEnded(await bench.submit(input)))
    // Pixels instead of files, because a file contains the parameters.
    const [part, all, byDefault] = await Promise.all(inputs.map(pixelsOf))
    expect(part).not.toEqual(all)
    expect(byDefault).toEqual(all)
  })

  test('that the model cannot run fails as internal after one run, and the worker continues', async () => {
    const record = await bench.untilEnded(await bench.submit({ width: 65 }))
    expect(record).toMatchObject({ status: 'failed', runs: 1, error: { code: 'internal' } })
    expect((await bench.untilEnded(await bench.submit())).status).toBe('succeeded')
  })

  describe('that begins with a picture', () => {
    const full = { width: 128, height: 128, num_inference_steps: 20, fit: 'cover' } as const
    const worst = (a: Buffer, b: Buffer): number => a.reduce((max, value, at) => Math.max(max, Math.abs(value - (b[at] ?? 0))), 0)
    const readPicture = (name: string): Promise<Buffer> => readFile(new URL(name, pictures))

    test('becomes the picture that diffusers makes from it, and counts only the steps that are run', async () => {
      const image = await bench.storeInput(await readPicture('pipeline/boat.png'))
      const id = await bench.submit({ ...full, prompt: 'a blue boat on the sea', image, strength: 0.6 })
      const record = await bench.untilEnded(id)
      expect(record).toMatchObject({ status: 'succeeded', progress: { step: 12, total: 12 } })
      expect(worst(await bench.pixels(record), await toPixels(await readPicture('img2img/i2i-blue-boat.png')))).toBeLessThanOrEqual(1)
    })

    test('and a mask becomes the picture that diffusers makes from both', async () => {
      const image = await bench.storeInput(await readPicture('pipeline/boat.png'))
      const mask = await bench.storeInput(await readPicture('img2img/inputs/mask-disc-128.png'))
      const input = { ...full, prompt: 'a yellow star', image, mask, strength: 0.9, num_inference_steps: 12, seed: 11 }
      const record = await bench.untilEnded(await bench.submit(input))
      expect(worst(await bench.pixels(record), await toPixels(await readPicture('img2img/inpaint-disc.png')))).toBeLessThanOrEqual(1)
    })

    test('of another size has it fitted, and each of several pictures is the one of its seed', async () => {
      const image = await bench.storeInput(await readPicture('pipeline/wide.png'))
      const input = { image, strength: 0.5, fit: 'contain' } as const
      const [many, ...alone] = await Promise.all([
        bench.submit({ ...input, seed: 7, num_images_per_prompt: 2 }),
        ...[7, 8].map((seed) => bench.submit({ ...input, seed })),
      ])
      const record = await bench.untilEnded(many)
      expect(record.output?.images).toHaveLength(2)
      for (const [n, id] of alone.entries())
        expect((await bench.untilEnded(id)).output?.images[0]?.sha256).toBe(record.output?.images[n]?.sha256)
    })

    test('that is no longer in the store fails, and the worker continues', async () => {
      const image = await bench.storeInput(await readPicture('pipeline/boat.png'))
      const gone = { ...image, sha256: '0'.repeat(64) }
      const record = await bench.untilEnded(await bench.submit({ ...full, image: gone, strength: 0.6 }))
      expect(record).toMatchObject({ status: 'failed', error: { code: 'internal' } })
      expect((await bench.untilEnded(await bench.submit())).status).toBe('succeeded')
    })
  })

  test('of n images has the pictures of the seeds from seed to seed + n - 1', async () => {
    const [many, ...alone] = await Promise.all([
      bench.submit({ seed: 7, num_images_per_prompt: 3 }),
      ...[7, 8, 9].map((seed) => bench.submit({ seed })),
    ])
    const record = await bench.untilEnded(many)
    expect(record.output?.images.map(({ seed }) => seed)).toEqual([7, 8, 9])
    for (const [n, id] of alone.entries()) {
      const single = await bench.untilEnded(id)
      expect(record.output?.images[n]?.sha256).toBe(single.output?.images[0]?.sha256)
    }
  })
})

function correlation(a: Uint8Array, b: Uint8Array): number {
  const mean = (values: Uint8Array): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const [meanA, meanB] = [mean(a), mean(b)]
  let [ab, aa, bb] = [0, 0, 0]
  for (const [at, value] of a.entries()) {
    const [da, db] = [value - meanA, (b[at] ?? 0) - meanB]
    ab += da * db
    aa += da * da
    bb += db * db
  }
  return ab / Math.sqrt(aa * bb)
}

describe('a worker', () => {
  test('announces its model and itself while it runs, and withdraws itself when it ends', async () => {
    const bench = await openWorkerBench()
    try {
      const worker = await bench.startWorker({ env: { MAX_PIXELS: '40000' } })
      expect(worker.isReady()).toBe(true)
      expect(await bench.registry.models()).toMatchObject([
        {
          id: 'tiny-scenes',
          provider: 'cpu',
          runtime: expect.stringMatching(/^onnxruntime-node \d+\.\d+\.\d+$/) as string,
          defaults: { width: 128, num_inference_steps: 20 },
          limits: { max_side: 256, max_pixels: 40_000 },
        },
      ])
      expect(await bench.registry.workers()).toMatchObject([{ id: worker.id, model: 'tiny-scenes', concurrency: 8, active: 0 }])
      // Redis comes back empty.
      await bench.redis.flushall()
      await bench.server.restart()
      while ((await bench.registry.models()).length === 0) await sleep(20)
      await bench.untilEnded(await bench.submit())
      await worker.close()
      expect(await bench.registry.workers()).toEqual([])
      expect(await bench.registry.models()).toHaveLength(1)
    } finally {
      await bench.close()
    }
  })

  test('draws nothing for a job of another model, logs that, and leaves the job to housekeeping', async () => {
    const bench = await openWorkerBench()
    try {
      const log = captureLog()
      await bench.startWorker({ logger: log.logger })
      const id = await bench.submit({ model: 'other' }, { requestId: 'of-other' })
      const line = { jobId: id, requestId: 'of-other', model: 'other', served: 'tiny-scenes' }
      expect(await log.until('job is for another model and is not run here')).toMatchObject([line])
      // BullMQ has given it up at the first attempt.
      await expect.poll(() => bench.queues.findMissing(['tiny-scenes', 'other'], [id])).toEqual([id])
      expect(await bench.store.get(id)).toMatchObject({ status: 'running', runs: 1, output: undefined, error: undefined })
      expect(await bench.untilEnded(await bench.submit())).toMatchObject({ status: 'succeeded' })
    } finally {
      await bench.close()
    }
  })

  test('names job and request in its log lines about a lost lock, a dead engine and an interrupted run', async () => {
    const bench = await openWorkerBench()
    try {
      const log = captureLog()
      const worker = await bench.startWorker({ logger: log.logger, env: { JOB_LOCK_DURATION: '1' } })
      const id = await bench.submit(endlessInput, { requestId: 'of-lost' })
      const ids = { jobId: id, requestId: 'of-lost' }
      await bench.until(id, ({ status }) => status === 'running')
      process.kill(worker.enginePid ?? 0, 'SIGKILL')
      const [death] = await log.until('engine process died; another is started')
      expect(death).toMatchObject({ jobIds: [id], requestIds: ['of-lost'] })
      await bench.redis.del(`{test}:generate-tiny-scenes:${id}:lock`)
      expect((await log.until('job was abandoned by its worker and is queued again'))[0]).toMatchObject(ids)
      expect((await log.until('the lock of a job is lost; another worker may run it too'))[0]).toMatchObject(ids)
      await bench.store.requestCancel(id)
      await bench.untilEnded(id)

      // The job cannot be started.
      await bench.redis.set(bench.store.keys.index('', 'running'), 'no sorted set')
      const broken = await bench.submit({}, { requestId: 'of-broken' })
      expect((await log.until('run was interrupted')).at(-1)).toMatchObject({ jobId: broken, requestId: 'of-broken' })
    } finally {
      await bench.close()
    }
  })

  test('does not start with a limit of pixels below the default size of its model', async () => {
    const bench = await openWorkerBench()
    try {
      await expect(bench.startWorker({ env: { MAX_PIXELS: '100' } })).rejects.toThrow('Expected MAX_PIXELS to be at least 16384')
    } finally {
      await bench.close()
    }
  })
})
