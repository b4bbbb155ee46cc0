/** A copy of a scheduler for one run. Knows nothing about who wrapped it or why. */
import type { Scheduler } from './scheduler.ts'

/** Shares nothing mutable with `scheduler`. The copy of a wrapped scheduler is wrapped too. */
export function copyScheduler(scheduler: Scheduler): Scheduler {
  const copy = scheduler.cloneForRequest?.() ?? scheduler.clone?.()
  if (copy !== undefined && copy !== scheduler) return copy
  throw new TypeError(`Expected ${scheduler.constructor.name}.clone() to give another scheduler, as every run needs its own, got none`)
}
