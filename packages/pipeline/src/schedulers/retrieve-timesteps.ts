/**
 * Configures a scheduler for a run and reads the schedule back. Decides which of steps, timesteps and sigmas is used, and whether this
 * scheduler accepts it. Works with any scheduler that has `setTimesteps` and `timesteps`. Knows nothing about pipelines.
 */

/** The caller's own schedule, in place of a number of steps. */
export type CustomSchedule = 'timesteps' | 'sigmas'

/** The part of a scheduler that scheduling needs; diffusers' names. */
export interface SchedulerLike {
  /**
   * What `setTimesteps` accepts in place of a number of steps. Which options a function reads cannot be found out, so a scheduler that does
   * not say is assumed to accept none. Default none.
   */
  readonly accepts?: readonly CustomSchedule[]
  timesteps: ArrayLike<number>
  setTimesteps(numInferenceSteps: number | undefined, options?: object): unknown
}

export interface ScheduleOptions {
  /** Where the schedule will be used; passed on to the scheduler. Default none. */
  device?: string | undefined
  /** The caller's own timesteps, highest first, in place of a number of steps. Not together with `sigmas`. Default none. */
  timesteps?: ArrayLike<number> | undefined
  /** The caller's own noise levels, highest first, in place of a number of steps. Not together with `timesteps`. Default none. */
  sigmas?: ArrayLike<number> | undefined
  /** Shift of the schedule for models with dynamic shifting. Default none. */
  mu?: number | undefined
  /** Whatever else this scheduler's `setTimesteps` takes. */
  [option: string]: unknown
}

/**
 * Configures `scheduler` and returns its timesteps and their number. `timesteps` or `sigmas` replace `numInferenceSteps`, and then the number
 * is their length; giving both, or giving one to a scheduler that does not accept it, is an error. Other options go to `setTimesteps`.
 */
export function retrieveTimesteps<T extends SchedulerLike>(
  scheduler: T,
  numInferenceSteps?: number,
  options: ScheduleOptions = {},
): [timesteps: T['timesteps'], numInferenceSteps: number | undefined] {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null))
  const custom = (['timesteps', 'sigmas'] as const).filter((name) => name in given)
  if (custom.length === 2) throw new TypeError('Expected timesteps or sigmas, got both')
  const [name] = custom
  if (name === undefined) {
    scheduler.setTimesteps(numInferenceSteps, given)
    return [scheduler.timesteps, numInferenceSteps]
  }
  if (scheduler.accepts?.includes(name) !== true) {
    // For a wrapper, the error names the scheduler inside it.
    const { scheduler: inner = scheduler } = scheduler as { scheduler?: SchedulerLike }
    throw new TypeError(
      `Expected a scheduler that takes custom ${name}, got ${inner.constructor.name}, whose \`accepts\` is ${JSON.stringify(scheduler.accepts)}`,
    )
  }
  scheduler.setTimesteps(undefined, given)
  return [scheduler.timesteps, scheduler.timesteps.length]
}
