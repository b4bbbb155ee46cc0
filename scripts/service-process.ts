/**
 * Owns the processes of our services while a script runs them: start, wait until jobs are taken, drain, end.
 *
 * Invariant: no service outlives the script that started it, except when the script is killed with SIGKILL. Each runs in a process group of
 * its own: a terminal's Ctrl-C reaches the script only, which sends each service exactly one SIGTERM (they would take a second one as
 * "at once"). Knows nothing about jobs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export type ServiceName = 'api' | 'gpu-worker'

export interface ServiceProcess {
  readonly name: ServiceName
  /** Resolves when the process is gone, with how it ended: `exit code 1`, `SIGKILL`. */
  readonly ended: Promise<string>
  /** Asks for an orderly end. */
  drain(): void
  /** Ends the process and its children now. */
  kill(): void
}

/** `logFile`: where stdout and stderr go; undefined: to those of this process. */
export function startService(name: ServiceName, env: NodeJS.ProcessEnv, logFile?: string): ServiceProcess {
  const output = logFile === undefined ? 'inherit' : openSync(logFile, 'w')
  const child = spawn(process.execPath, [`services/${name}/src/main.ts`], { env, detached: true, stdio: ['ignore', output, output] })
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // The group is gone already.
    }
  }
  process.once('exit', kill)
  const ended = once(child, 'exit').then(
    ([code, signal]) => {
      process.off('exit', kill)
      return signal === null ? `exit code ${code}` : String(signal)
    },
    (error: Error) => error.message,
  )
  return { name, ended, drain: () => void child.kill('SIGTERM'), kill }
}

/** Rejects when one of the services ends; never resolves. */
export async function failWhenOneEnds(services: ServiceProcess[]): Promise<never> {
  const [name, how] = await Promise.race(services.map(async (service) => [service.name, await service.ended] as const))
  throw new Error(`Expected ${name} to keep running, got ${how}`)
}

/** Drains all services at once; one that is still there after `limitMs` is killed. */
export async function endServices(services: ServiceProcess[], limitMs: number): Promise<void> {
  const ended = new AbortController()
  for (const service of services) service.drain()
  const all = Promise.all(services.map((service) => service.ended)).finally(() => ended.abort())
  await Promise.race([all, sleep(limitMs, undefined, { signal: ended.signal }).catch(() => {})])
  for (const service of services) service.kill()
  await all
}

/** Resolves when `GET url` is answered with 200. */
export async function untilOk(url: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const response = await fetch(url, { signal }).catch(() => undefined)
    await response?.body?.cancel()
    if (response?.status === 200) return
    await sleep(100, undefined, { signal })
  }
}
