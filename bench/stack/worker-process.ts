/**
 * A worker in a process of its own, as services/gpu-worker/src/main.ts runs it, with two additions: the engine process may run another module
 * (`ENGINE_ENTRY`), and the parent may ask for how long this process's event loop was blocked.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import pino from 'pino'
import { readConfig } from '../../services/gpu-worker/src/config.ts'
import { startWorkerService } from '../../services/gpu-worker/src/worker-service.ts'

/** The answer to a message, about the time since the previous one. The first answer says nothing. */
export interface LoopDelay {
  /** Milliseconds beyond the timer's own interval. */
  readonly p99Ms: number
  readonly maxMs: number
}

/** The histogram holds the time between two ticks of a timer of this many milliseconds. */
const resolutionMs = 1

const config = readConfig()
const service = await startWorkerService({
  config,
  logger: pino({ level: config.logLevel }),
  engineEntry: process.env['ENGINE_ENTRY'],
})
const delay = monitorEventLoopDelay({ resolution: resolutionMs })
process.on('message', () => {
  const toMs = (ns: number): number => Math.max(0, ns / 1e6 - resolutionMs)
  process.send?.({ p99Ms: toMs(delay.percentile(99)), maxMs: toMs(delay.max) } satisfies LoopDelay)
  delay.reset()
  // It starts with the first question, because its timer alone takes two per cent of a core.
  delay.enable()
})
const stop = (): void => void service.close(1000).then(() => process.exit(0))
process.on('SIGTERM', stop)
process.on('disconnect', stop)
process.send?.('ready')
