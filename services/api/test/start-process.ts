/** Runs the api as the process it is in production, for tests that signal or kill it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { vi } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'

const children: ChildProcess[] = []

/** For `afterEach`. */
export function killProcesses(): void {
  for (const child of children.splice(0)) child.kill('SIGKILL')
}

export interface ApiProcess {
  child: ChildProcess
  url: string
  ended: Promise<number | null>
  output: () => string
}

export async function startProcess(env: Record<string, string>): Promise<ApiProcess> {
  const port = await findFreePort()
  const child = spawn(process.execPath, [new URL('../src/main.ts', import.meta.url).pathname], {
    env: { PATH: process.env['PATH'], HOST: '127.0.0.1', PORT: String(port), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.push(child)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  return { child, url: `http://127.0.0.1:${port}`, ended, output: () => text }
}

export async function untilStatus(url: string, wanted: number, init?: RequestInit): Promise<void> {
  const look = async (): Promise<void> => {
    const { status } = await fetch(url, init)
    if (status !== wanted) throw new Error(`Expected ${wanted} from ${url}, got ${status}`)
  }
  await vi.waitFor(look, { timeout: 15_000, interval: 50 })
}
