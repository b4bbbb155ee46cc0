/**
 * Owns the registry of scheduler classes that a model folder may name. Invariant: only registered classes are ever made. Knows nothing about
 * files. Runs in the engine process.
 */
import { FlowMatchEulerDiscreteScheduler } from './flow-match-euler-discrete.ts'
import type { Scheduler } from './scheduler.ts'

export interface SchedulerClass {
  /** `json`: the content of a scheduler_config.json. Throws an error that names the field which it does not take. */
  fromConfig(json: unknown): Scheduler
}

const classes = new Map<string, SchedulerClass>([['FlowMatchEulerDiscreteScheduler', FlowMatchEulerDiscreteScheduler]])

/** Makes models whose model_index.json names `className` use this class. A registered name is not replaced. */
export function registerSchedulerClass(className: string, schedulerClass: SchedulerClass): void {
  if (classes.has(className)) throw new Error(`Expected a scheduler class name that is free, got ${className}`)
  classes.set(className, schedulerClass)
}

/** The registered classes by name. */
export const schedulerClasses: ReadonlyMap<string, SchedulerClass> = classes
