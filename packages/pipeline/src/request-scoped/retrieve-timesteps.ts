/**
 * Configures a scheduler for a run and reads the schedule back. `retrieveTimesteps` changes the scheduler it is given;
 * `asyncRetrieveTimesteps` with `returnScheduler` changes a copy instead. Works with any scheduler that has `setTimesteps` and `timesteps`.
 * Knows nothing about pipelines.
 */
import { BaseAsyncScheduler, copyScheduler, innerScheduler } from './base-async-scheduler.ts'
import { type ScheduleOptions, type SchedulerLike, setSchedule } from './set-schedule.ts'

/**
 * Configures `scheduler` and returns its timesteps and their number. `timesteps` or `sigmas` (both: an error; a class that does not take
 * them: an error) replace `numInferenceSteps`, and then the number is their length. Other options go to `setTimesteps`.
 */
export function retrieveTimesteps<T extends SchedulerLike>(
  scheduler: T,
  numInferenceSteps?: number,
  options: ScheduleOptions = {},
): [timesteps: T['timesteps'], numInferenceSteps: number | undefined] {
  const steps = setSchedule(scheduler, numInferenceSteps, options, innerScheduler(scheduler))
  return [scheduler.timesteps, steps]
}

export interface ReturnScheduler extends ScheduleOptions {
  /** Leave the scheduler passed in untouched, configure a copy and return it as third entry. */
  returnScheduler: true
}

/** As `retrieveTimesteps`; with `returnScheduler: true` on a copy, of the wrapper's class where the scheduler is wrapped. */
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
