/**
 * Configures a scheduler for a run and reads the schedule back. Changes the scheduler it is given. Works with any scheduler that has
 * `setTimesteps` and `timesteps`. Knows nothing about pipelines.
 */
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
  // A wrapper shows only bound methods; the source is the inner scheduler's.
  const { scheduler: inner = scheduler } = scheduler as { scheduler?: SchedulerLike }
  const steps = setSchedule(scheduler, numInferenceSteps, options, inner)
  return [scheduler.timesteps, steps]
}
