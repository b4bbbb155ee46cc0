/** What a worker does with a model whose weights are damaged. */
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { captureLog } from './log-capture.ts'
import { modelsDir, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

test('the jobs of a model with damaged weights fail for good, and the log names the part and the file', async () => {
  const models = join(bench.dir, 'models')
  await cp(join(modelsDir, 'tiny-scenes'), join(models, 'tiny-scenes'), { recursive: true })
  const file = join(models, 'tiny-scenes/transformer/diffusion_pytorch_model.safetensors')
  const bytes = await readFile(file)
  // As if a part of the weights had never been written and the disk returned ones.
  bytes.fill(0xff, bytes.length - 200_000)
  await writeFile(file, bytes)
  const log = captureLog()
  await bench.startWorker({ env: { MODELS_DIR: models }, logger: log.logger })
  const record = await bench.untilEnded(await bench.submit())
  expect(record).toMatchObject({ status: 'failed', strikes: 0, error: { code: 'not_finite', retryable: false } })
  expect(record.error?.message).toMatch(/^The model computed values that are not finite numbers/)
  const [line] = await log.until('job ended')
  expect(line?.err?.message).toContain(
    `Expected the transformer to compute finite numbers, got NaN or infinity: the weights in ${file} are damaged`,
  )
})
