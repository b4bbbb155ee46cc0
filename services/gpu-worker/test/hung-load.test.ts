/** A worker whose model is on a disk that does not answer. */
import { execFileSync } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
import { captureLog } from './log-capture.ts'
import { modelsDir, openWorkerBench } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

const engineEntry = fileURLToPath(new URL('stuck-engine.ts', import.meta.url))

let bench: WorkerBench
let root: string
beforeEach(async () => {
  bench = await openWorkerBench()
  root = await mkdtemp(join(tmpdir(), 'easel-models-'))
})
afterEach(async () => {
  await bench?.close()
  await rm(root, { recursive: true, force: true })
})

test('a worker whose engine waits for a file of its model reports for how long on its port, and ends with the reason', async () => {
  await cp(join(modelsDir, 'tiny-scenes'), join(root, 'stuck'), { recursive: true })
  // Opening it blocks until somebody opens it for writing.
  execFileSync('mkfifo', [join(root, 'stuck', 'stuck')])
  const port = await findFreePort()
  const log = captureLog()
  const env = { MODELS_DIR: root, MODEL: 'stuck', ENGINE_LOAD_TIMEOUT: '5', METRICS_PORT: String(port), METRICS_HOST: '127.0.0.1' }
  const started = bench.startWorker({ env, logger: log.logger, engineEntry }).then(
    () => 'ready',
    (error: Error) => error.message,
  )
  const ready = async (): Promise<unknown> => {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`)
    return [response.status, await response.json()]
  }
  const silent = { ready: false, loading: { silent_seconds: expect.toSatisfy((seconds: number) => seconds >= 2) as number } }
  await expect.poll(ready, { timeout: 60_000, interval: 50 }).toEqual([503, silent])
  expect(await started).toMatch(/^Expected the engine process to load the model, got no sign of work for 5 s: /)
  expect(log.saying('engine shows no sign of work while it loads the model').length).toBeGreaterThan(1)
  expect(log.saying('engine shows no sign of work; it is killed')).toHaveLength(1)
})
