/** A real worker for tests of the api: the process of services/gpu-worker on models/tiny-scenes, at the api's Redis and folder. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { TestApi } from './start-api.ts'

const entry = fileURLToPath(new URL('../../gpu-worker/src/main.ts', import.meta.url))
const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))

export interface WorkerProcess {
  /** Ends it in order. */
  stop(): Promise<void>
}

/** Resolves when it takes jobs. */
export async function startWorker({ redis, storageDir, deps }: TestApi): Promise<WorkerProcess> {
  const variables = {
    REDIS_URL: redis.url,
    STORAGE: 'local',
    STORAGE_DIR: storageDir,
    MODELS_DIR: modelsDir,
    MODEL: 'tiny-scenes',
    DEVICE: 'cpu',
    SHUTDOWN_GRACE: '1',
    LOG_LEVEL: 'warn',
  }
  const child = spawn(process.execPath, [entry], { env: { ...process.env, ...variables }, stdio: ['ignore', 'inherit', 'inherit'] })
  const exited = once(child, 'exit')
  while (!(await deps.registry.workers()).some((worker) => worker.ready)) {
    if (child.exitCode !== null) throw new Error(`Expected a worker, got exit code ${child.exitCode}`)
    await sleep(50)
  }
  return {
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}
