/**
 * Owns the processes of our services while a script runs them: starts them, waits until they take jobs, drains and ends them.
 *
 * Invariant: no service outlives the script that started it, however the script ends. Each runs in its own process group, so that Ctrl-C in a
 * terminal reaches only the script, which sends each service exactly one SIGTERM (a second one would end it at once). Knows nothing about
 * jobs.
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
  /** Resolves when the process has ended, with a sentence about it: the service's own if it could not start. */
  readonly ended: Promise<string>
  /** Passes a SIGHUP on, once the service is ready: before that it would end the process. */
  hangUp(): void
  /** Asks for a clean shutdown. */
  drain(): void
  /** Ends the process and its children immediately. */
  kill(): void
}

const root = fileURLToPath(new URL('../../../../', import.meta.url))

/** The command line and variables of a service, which ends when the process `starterPid` has ended, unless that is undefined. */
export function toServiceCommand(name: ServiceName, env: NodeJS.ProcessEnv, starterPid: number | undefined) {
  const entry = `services/${name}/src/main.ts`
  if (starterPid === undefined) return { args: [entry], env }
  const preload = fileURLToPath(new URL('end-with-parent.ts', import.meta.url))
  return { args: ['--import', preload, entry], env: { ...env, EASEL_PARENT_PID: String(starterPid) } }
}

/** `logFile`: where stdout and stderr go; if undefined, to those of this process. */
export function startService(name: ServiceName, variables: NodeJS.ProcessEnv, logFile?: string): ServiceProcess {
  const output = logFile === undefined ? 'inherit' : openSync(logFile, 'w')
  const { args, env } = toServiceCommand(name, variables, process.pid)
  const child = spawn(process.execPath, args, { cwd: root, env, detached: true, stdio: ['ignore', output, output, 'ipc'] })
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // The process group no longer exists.
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
  // Not `exit`, because a last message from the process may still be in the channel; it arrives before `close`.
  const ended = once(child, 'close').then(
    ([code, signal]) => {
      process.off('exit', kill)
      return sentence ?? (signal === null ? `The ${name} has ended with exit code ${code}.` : `The ${name} was ended by ${signal}.`)
    },
    (error: Error) => error.message,
  )
  const hangUp = () => void ready.then(() => child.kill('SIGHUP'))
  return { name, ready, ended, hangUp, drain: () => void child.kill('SIGTERM'), kill }
}

/** Rejects when one of the services ends; never resolves. */
export async function failWhenOneEnds(services: ServiceProcess[]): Promise<never> {
  throw new Error(await Promise.race(services.map(async (service) => await service.ended)))
}

/** Drains all services at once and kills those that still run after `limitMs`. */
export async function endServices(services: ServiceProcess[], limitMs: number): Promise<void> {
  const ended = new AbortController()
  for (const service of services) service.drain()
  const all = Promise.all(services.map((service) => service.ended)).finally(() => ended.abort())
  await Promise.race([all, sleep(limitMs, undefined, { signal: ended.signal }).catch(() => {})])
  for (const service of services) service.kill()
  await all
}

/** Resolves when all services have reported that they are ready and the api at `url` takes jobs. Sends no request before the reports. */
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
