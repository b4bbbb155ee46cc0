/**
 * Easel as it is deployed, on this machine: a Redis server, the api and workers in processes of their own, pictures in a temporary folder, and
 * a client that talks HTTP. Everything is ended by `close`.
 */
import { fork, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Job } from '@easel/contract'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import { openHttpClient } from './http-client.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'
import type { LoopDelay } from './worker-process.ts'

const workerEntry = fileURLToPath(new URL('worker-process.ts', import.meta.url))
const nullEngineEntry = fileURLToPath(new URL('null-engine.ts', import.meta.url))
const apiEntry = fileURLToPath(new URL('../../services/api/src/main.ts', import.meta.url))

export interface WorkerOptions {
  /** The model that it serves; any name with the null engine. Default: tiny-scenes. */
  readonly model?: string
  /** Use the null engine, with steps of this many milliseconds; 0: ready bytes immediately. Default: the real engine. */
  readonly nullStepMs?: number
  /** How many jobs it runs at once. Default 8. */
  readonly concurrency?: number
  /** The folder in which it keeps measurements. Default: none. */
  readonly cacheDir?: string
}

export interface BenchWorker {
  readonly pid: number
  readLoopDelay(): Promise<LoopDelay>
}

export interface Stack {
  readonly redisUrl: string
  /** The URL of the api. */
  readonly url: string
  /** One for each of the options given. */
  readonly workers: readonly BenchWorker[]
  /** Sends POST /v1/jobs and waits for the end in the same request; rejects unless the job succeeded. */
  makePicture(request: Readonly<Record<string, unknown>>): Promise<Job>
  /** Sends GET for a path and reads the answer to its end. */
  get(path: string): Promise<string>
  close(): Promise<void>
}

/** A folder whose files are in memory; undefined where the system has none. */
export const memoryFolder = existsSync('/dev/shm') ? '/dev/shm' : undefined

/** `folder`: where a new folder for the pictures is made. Default: the system's folder for temporary files. */
export async function openStack(workers: readonly WorkerOptions[], folder = tmpdir()): Promise<Stack> {
  const redis = await startRedis()
  const dir = await mkdtemp(join(folder, 'easel-bench-'))
  const port = await findFreePort()
  const url = `http://127.0.0.1:${port}`
  const env = {
    PATH: process.env['PATH'],
    HOST: '127.0.0.1',
    PORT: String(port),
    REDIS_URL: redis.url,
    STORAGE_DIR: dir,
    MODELS_DIR: modelsDir,
    MODEL: workers[0]?.model ?? modelName,
    DEVICE: 'cpu',
    LOG_LEVEL: 'warn',
  }
  const children: ChildProcess[] = []
  const killAtExit = (): void => children.forEach((child) => child.kill('SIGKILL'))
  process.once('exit', killAtExit)
  const close = async (): Promise<void> => {
    await Promise.all(children.map(end))
    process.off('exit', killAtExit)
    await redis.stop()
    await rm(dir, { recursive: true, force: true })
  }
  try {
    children.push(spawn(process.execPath, [apiEntry], { env: { ...env, LOG_LEVEL: 'error' }, stdio: ['ignore', 'ignore', 'inherit'] }))
    const forked = workers.map(({ model = modelName, nullStepMs, concurrency = 8, cacheDir }) => {
      const own = {
        ...env,
        LOG_LEVEL: 'error',
        MODEL: model,
        WORKER_CONCURRENCY: String(concurrency),
        ...(cacheDir && { CACHE_DIR: cacheDir }),
      }
      const engine = nullStepMs === undefined ? {} : { ENGINE_ENTRY: nullEngineEntry, NULL_STEP_MS: String(nullStepMs) }
      return fork(workerEntry, { execArgv: [], env: { ...own, ...engine } })
    })
    children.push(...forked)
    await Promise.all(forked.map((child) => nextMessage(child)))
    await untilReady(url, children)
    const client = openHttpClient(url)
    return {
      redisUrl: redis.url,
      url,
      workers: forked.map((child) => ({
        pid: child.pid as number,
        async readLoopDelay() {
          const answer = nextMessage(child)
          child.send('loop delay')
          return (await answer) as LoopDelay
        },
      })),
      async makePicture(request) {
        const { status, body } = await client.send('POST', '/v1/jobs', JSON.stringify(request))
        const job = JSON.parse(body) as Job
        if (status === 200 && job.status === 'succeeded') return job
        throw new Error(`Expected a picture, got ${status}: ${body}`)
      },
      get: async (path) => (await client.send('GET', path)).body,
      async close() {
        client.close()
        await close()
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function nextMessage(child: ChildProcess): Promise<unknown> {
  const over = new AbortController()
  try {
    const message = once(child, 'message', { signal: over.signal }).then(([first]) => first as unknown)
    const exit = once(child, 'exit', { signal: over.signal }).then(([code]) => {
      throw new Error(`Expected the worker to run, got exit code ${String(code)}`)
    })
    return await Promise.race([message, exit])
  } finally {
    over.abort()
  }
}

async function untilReady(url: string, children: readonly ChildProcess[]): Promise<void> {
  for (;;) {
    const ended = children.find(({ exitCode }) => exitCode !== null)
    if (ended !== undefined) throw new Error(`Expected ${ended.spawnargs.join(' ')} to run, got exit code ${ended.exitCode}`)
    const response = await fetch(`${url}/readyz`).catch(() => undefined)
    if (response?.status === 200) return
    await sleep(50)
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const impatience = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await exited
  clearTimeout(impatience)
}
