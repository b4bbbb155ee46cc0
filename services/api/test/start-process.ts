/** Runs the api and the worker as the processes they are in production, for tests that signal or kill them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { vi } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'

const children: ChildProcess[] = []

/** For `afterEach`. */
export function killProcesses(): void {
  for (const child of children.splice(0)) child.kill('SIGKILL')
}

export interface ServiceProcess {
  child: ChildProcess
  ended: Promise<number | null>
  output: () => string
}

export interface ApiProcess extends ServiceProcess {
  url: string
}

export async function startProcess(env: Record<string, string>): Promise<ApiProcess> {
  const port = await findFreePort()
  const started = start('../src/main.ts', { HOST: '127.0.0.1', PORT: String(port), ...env })
  return { ...started, url: `http://127.0.0.1:${port}` }
}

export function spawnWorkerProcess(env: Record<string, string>): ServiceProcess {
  return start('../../gpu-worker/src/main.ts', env)
}

/** Resolves when the worker accepts jobs. */
export async function startWorkerProcess(env: Record<string, string>): Promise<ServiceProcess> {
  const started = spawnWorkerProcess(env)
  const untilReady = (): void => {
    if (!started.output().includes('"msg":"ready"')) throw new Error(`Expected the worker to be ready, got:\n${started.output()}`)
  }
  await vi.waitFor(untilReady, { timeout: 120_000, interval: 50 })
  return started
}

function start(main: string, env: Record<string, string>): ServiceProcess {
  const child = spawn(process.execPath, [fileURLToPath(new URL(main, import.meta.url))], {
    env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return { child, ended, output: () => text }
}

export async function untilStatus(url: string, wanted: number, init?: RequestInit): Promise<void> {
  const look = async (): Promise<void> => {
    const { status } = await fetch(url, init)
    if (status !== wanted) throw new Error(`Expected ${wanted} from ${url}, got ${status}`)
  }
  await vi.waitFor(look, { timeout: 60_000, interval: 50 })
}
