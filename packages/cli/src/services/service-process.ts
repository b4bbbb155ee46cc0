/**
 * Owns the processes of our services while a script runs them: start, wait until jobs are taken, drain, end.
 *
 * Invariant: no service outlives the script that started it, however that ends. Each runs in a process group of its own: a terminal's
 * Ctrl-C reaches the script only, which sends each service exactly one SIGTERM (they would take a second one as "at once"). Knows nothing
 * about jobs.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { StartMessage } from '@easel/process'

export type ServiceName = 'api' | 'gpu-worker'

export interface ServiceProcess {
  readonly name: ServiceName
  /** Resolves when the service says that it is ready: the api listens, the worker takes jobs. */
  readonly ready: Promise<void>
  /** Resolves when the process is gone, with a sentence about it: the service's own where it could not start. */
  readonly ended: Promise<string>
  /** Asks for an orderly end. */
  drain(): void
  /** Ends the process and its children now. */
  kill(): void
}

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))

/** Command line and variables of a service; it ends when process `starterPid` is gone, unless that is undefined. */
export function toServiceCommand(name: ServiceName, env: NodeJS.ProcessEnv, starterPid: number | undefined) {
  const entry = `services/${name}/src/main.ts`
  if (starterPid === undefined) return { args: [entry], env }
  const preload = fileURLToPath(new URL('end-with-parent.ts', import.meta.url))
  return { args: ['--import', preload, entry], env: { ...env, EASEL_PARENT_PID: String(starterPid) } }
}

/** `logFile`: where stdout and stderr go; undefined: to those of this process. */
export function startService(name: ServiceName, variables: NodeJS.ProcessEnv, logFile?: string): ServiceProcess {
  const output = logFile === undefined ? 'inherit' : openSync(logFile, 'w')
  const { args, env } = toServiceCommand(name, variables, process.pid)
  const child = spawn(process.execPath, args, { cwd: ROOT, env, detached: true, stdio: ['ignore', output, output, 'ipc'] })
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // The group is gone already.
    }
  }
  process.once('exit', kill)
  let sentence: string | undefined
  const ready = new Promise<void>((resolve) => {
    child.on('message', (message: StartMessage) => {
      if (message.type === 'ready') resolve()
      else sentence = message.sentence
    })
  })
  // Not `exit`: a message that the process left in the channel comes before `close`.
  const ended = once(child, 'close').then(
    ([code, signal]) => {
      process.off('exit', kill)
      return sentence ?? (signal === null ? `The ${name} has ended with exit code ${code}.` : `The ${name} was ended by ${signal}.`)
    },
    (error: Error) => error.message,
  )
  return { name, ready, ended, drain: () => void child.kill('SIGTERM'), kill }
}

/** Rejects when one of the services ends; never resolves. */
export async function failWhenOneEnds(services: ServiceProcess[]): Promise<never> {
  throw new Error(await Promise.race(services.map(async (service) => await service.ended)))
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

/** Resolves when all services have said that they are ready and the api at `url` takes jobs. A service that has not is asked nothing. */
export async function untilReady(services: ServiceProcess[], url: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const ready = Promise.all(services.map(async (service) => await service.ready))
  await Promise.race([ready, once(signal, 'abort').then(() => signal.throwIfAborted())])
  await untilOk(`${url}/readyz`, signal)
}

/** Resolves when `GET url` is answered with 200. */
async function untilOk(url: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const response = await fetch(url, { signal }).catch(() => undefined)
    await response?.body?.cancel()
    if (response?.status === 200) return
    await sleep(100, undefined, { signal })
  }
}
