/**
 * A service process that is killed and starts again, as under a container runtime. Its log is read for one thing only: the pid of the worker's
 * engine process.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export interface MortalService {
  readonly name: string
  /** The pid of the engine process that was announced last, unless its end has been logged. */
  readonly enginePid: number | undefined
  /** Sends SIGKILL to the process but not to its children, which have to notice by themselves, and starts another one. */
  kill(): void
  /** Sends SIGTERM and stops starting it again. */
  close(): Promise<void>
}

/** The milliseconds between the death of a process and the start of the next, which is the least that a container runtime takes. */
const restartMs = 300

export function startMortal(name: 'api' | 'gpu-worker', env: NodeJS.ProcessEnv): MortalService {
  const entry = fileURLToPath(new URL(`../../services/${name}/src/main.ts`, import.meta.url))
  let child: ChildProcess
  let enginePid: number | undefined
  let closing = false

  const start = (): void => {
    enginePid = undefined
    const started = spawn(process.execPath, [entry], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    child = started
    createInterface({ input: started.stdout }).on('line', (line) => {
      const { msg, pid, level } = toLogLine(line)
      if (msg === 'engine is ready') enginePid = pid
      if (msg?.startsWith('engine process died') === true) enginePid = undefined
      if ((level ?? 0) >= 60) console.error(`${name}: ${line}`)
    })
    started.once('exit', () => {
      if (!closing) void sleep(restartMs).then(() => closing || start())
    })
  }
  const killAtExit = (): void => void child.kill('SIGKILL')
  process.once('exit', killAtExit)
  start()

  return {
    name,
    get enginePid() {
      return enginePid
    },
    kill: () => void child.kill('SIGKILL'),
    async close() {
      closing = true
      process.off('exit', killAtExit)
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGTERM')
      const impatience = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await exited
      clearTimeout(impatience)
    },
  }
}

function toLogLine(line: string): { msg?: string; pid?: number; level?: number } {
  try {
    return JSON.parse(line) as { msg?: string; pid?: number; level?: number }
  } catch {
    return {}
  }
}
