import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openWorkerBench, toPixels } from '../test/worker-bench.ts'
import type { WorkerBench } from '../test/worker-bench.ts'

const golden = new URL('../../../packages/pipeline/test/golden/pipeline/', import.meta.url)

describe('a job', () => {
  let bench: WorkerBench
  beforeAll(async () => {
    bench = await openWorkerBench()
    await bench.startWorker()
  })
  afterAll(async () => bench?.close())

  test('becomes the picture that diffusers makes of the same input, stored under its key, with its hash', async () => {
    const id = await bench.submit({ width: 128, height: 128, num_inference_steps: 20 })
    const record = await bench.untilEnded(id)
    expect(record.error).toBeUndefined()
    expect(record).toMatchObject({ status: 'succeeded', progress: { step: 20, total: 20 }, runs: 1, strikes: 0 })
    const [image] = record.output?.images ?? []
    const file = await readFile(join(bench.dir, image?.key ?? ''))
    expect(image).toEqual({
      key: `images/${id}-0.png`,
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

  test('of n images has the pictures of seeds seed to seed + n - 1', async () => {
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
