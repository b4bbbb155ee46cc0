/**
 * Owns a whole Easel for a test or a screenshot: Redis, the api and one worker with the embedded model, as processes on free ports.
 *
 * Invariant: it shares nothing with a running Easel, and everything is gone after `stop()` or when the calling process ends. Knows nothing about what
 * it is used for. Runs from the project's folder.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFreePort, startRedis } from '../packages/job-store/test/redis-server.ts'
import { endServices, failWhenOneEnds, startService, untilReady } from '../packages/cli/src/services/service-process.ts'

export interface Easel {
  /** `http://localhost:PORT` */
  readonly url: string
  stop(): Promise<void>
}

export interface StartEaselOptions {
  /** Variables in addition to those set here. Default: none. */
  env?: Record<string, string>
}

const startLimitMs = 200_000
const endLimitMs = 10_000

export async function startEasel({ env = {} }: StartEaselOptions = {}): Promise<Easel> {
  const redis = await startRedis()
  const dir = await mkdtemp(join(tmpdir(), 'easel-whole-'))
  const port = await findFreePort()
  const url = `http://localhost:${port}`
  const variables: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
    HOST: '0.0.0.0',
    PORT: String(port),
    REDIS_URL: redis.url,
    MODEL: 'tiny-scenes',
    STORAGE: 'local',
    STORAGE_DIR: join(dir, 'images'),
    SHUTDOWN_GRACE: '1',
    ...env,
  }
  const names = ['api', 'gpu-worker'] as const
  const services = names.map((name) => startService(name, variables, join(dir, `${name}.log`)))
  const stop = async (): Promise<void> => {
    await endServices(services, endLimitMs)
    await redis.stop()
    await rm(dir, { recursive: true, force: true })
  }
  try {
    await Promise.race([untilReady(services, url, AbortSignal.timeout(startLimitMs)), failWhenOneEnds(services)])
  } catch (error) {
    const logs = await Promise.all(names.map(async (name) => await readFile(join(dir, `${name}.log`), 'utf8')))
    await stop()
    throw new Error(`Expected Easel to start, got ${(error as Error).message}\n${logs.join('\n').slice(-4000)}`, { cause: error })
  }
  // It also rejects when the services are ended on purpose, which is not an error.
  failWhenOneEnds(services).catch(() => {})
  return { url, stop }
}

/** A worker learns from the model how to draw previews when they are first asked for, and a short job may end before that. */
export async function untilPreviewsCome(url: string): Promise<void> {
  const headers = { 'content-type': 'application/json', prefer: 'wait=60' }
  const body = JSON.stringify({ prompt: 'a cat', num_inference_steps: 40, preview_every: 5 })
  for (;;) {
    const { id } = (await (await fetch(`${url}/v1/jobs`, { method: 'POST', headers, body })).json()) as { id: string }
    if ((await (await fetch(`${url}/v1/jobs/${id}/events`)).text()).includes('event: preview')) return
  }
}
