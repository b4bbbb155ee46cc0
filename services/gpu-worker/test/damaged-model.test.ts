/** What a worker does with a model whose files are damaged. */
import { cp, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
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

test('while it cannot be loaded again the worker says why on its port, and its jobs wait for the mended files', async () => {
  const models = join(bench.dir, 'models')
  await cp(join(modelsDir, 'tiny-scenes'), join(models, 'tiny-scenes'), { recursive: true })
  const port = await findFreePort()
  const env = { MODELS_DIR: models, METRICS_PORT: String(port), METRICS_HOST: '127.0.0.1' }
  const worker = await bench.startWorker({ env })
  const ready = async (): Promise<unknown> => (await fetch(`http://127.0.0.1:${port}/readyz`)).json()
  expect(await ready()).toEqual({ ready: true })

  const config = join(models, 'tiny-scenes/vae/config.json')
  await rename(config, `${config}.away`)
  process.kill(worker.enginePid!, 'SIGKILL')
  const failure = expect.stringContaining(`${config}: expected this file, got no such file`) as string
  const failed = { ready: false, loading: { silent_seconds: expect.any(Number) as number, last_failure: failure } }
  await expect.poll(ready, { timeout: 60_000 }).toEqual(failed)
  const job = await bench.submit()
  await rename(`${config}.away`, config)
  expect(await bench.untilEnded(job)).toMatchObject({ status: 'succeeded' })
  expect(await ready()).toEqual({ ready: true })
})
