/**
 * `retrieveTimesteps` that can leave the scheduler it is given untouched: with `returnScheduler` it configures and returns a copy. Knows
 * nothing about pipelines.
 */
import { retrieveTimesteps, type ScheduleOptions, type SchedulerLike } from '../schedulers/retrieve-timesteps.ts'
import { BaseAsyncScheduler, copyScheduler } from './base-async-scheduler.ts'

export interface ReturnScheduler extends ScheduleOptions {
  /** Leave the scheduler passed in untouched, configure a copy and return it as third entry. */
  returnScheduler: true
}

/** Like `retrieveTimesteps`; with `returnScheduler: true` it works on a copy, of the wrapper's class where the scheduler is wrapped. */
export function asyncRetrieveTimesteps<T extends SchedulerLike>(
  scheduler: T,
  numInferenceSteps: number | undefined,
  options: ReturnScheduler,
): [timesteps: T['timesteps'], numInferenceSteps: number | undefined, scheduler: T]
export function asyncRetrieveTimesteps<T extends SchedulerLike>(
  scheduler: T,
  numInferenceSteps?: number,
  options?: ScheduleOptions & { returnScheduler?: false | undefined },
): [timesteps: T['timesteps'], numInferenceSteps: number | undefined]
export function asyncRetrieveTimesteps<T extends SchedulerLike>(
  scheduler: T,
  numInferenceSteps?: number,
  { returnScheduler, ...options }: ScheduleOptions & { returnScheduler?: boolean | undefined } = {},
): [T['timesteps'], number | undefined] | [T['timesteps'], number | undefined, T] {
  if (returnScheduler !== true) return retrieveTimesteps(scheduler, numInferenceSteps, options)
  const copy = scheduler instanceof BaseAsyncScheduler ? scheduler.cloneForRequest() : copyScheduler(scheduler, numInferenceSteps, options)
  return [...retrieveTimesteps(copy, numInferenceSteps, options), copy]
}
