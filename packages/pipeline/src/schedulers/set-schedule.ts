/**
 * One call of `setTimesteps`, for any scheduler class: which of steps, timesteps or sigmas decide, and whether this class takes them.
 * JavaScript cannot ask a function for its options, so the source of `setTimesteps` is read: a class that plainly has no place for a custom
 * schedule is refused by name instead of running another schedule than the one asked for. Knows nothing about wrappers and pipelines.
 */

/** The part of a scheduler that scheduling needs; diffusers' names. */
export interface SchedulerLike {
  timesteps: ArrayLike<number>
  setTimesteps(numInferenceSteps: number | undefined, options?: object): unknown
}

export interface ScheduleOptions {
  /** Where the schedule will be used; handed to the scheduler. Default none. */
  device?: string | undefined
  /** Own timesteps, highest first, in place of a number of steps. Not together with `sigmas`. Default none. */
  timesteps?: ArrayLike<number> | undefined
  /** Own noise levels, highest first, in place of a number of steps. Not together with `timesteps`. Default none. */
  sigmas?: ArrayLike<number> | undefined
  /** Shift of the schedule for models with dynamic shifting. Default none. */
  mu?: number | undefined
  /** Whatever else this scheduler's `setTimesteps` takes. */
  [option: string]: unknown
}

/** Configures `scheduler` and returns the number of steps. `inner`: the scheduler behind a wrapper, whose methods' source can be read. */
export function setSchedule(
  scheduler: SchedulerLike,
  numInferenceSteps: number | undefined,
  options: ScheduleOptions,
  inner: SchedulerLike = scheduler,
): number | undefined {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null))
  const custom = (['timesteps', 'sigmas'] as const).filter((name) => name in given)
  if (custom.length === 2) throw new TypeError('Expected timesteps or sigmas, got both')
  const [name] = custom
  if (name === undefined) {
    scheduler.setTimesteps(numInferenceSteps, given)
    return numInferenceSteps
  }
  if (!takesOption(Reflect.get(inner, 'setTimesteps'), name)) {
    throw new TypeError(`Expected a scheduler that takes custom ${name}, got ${inner.constructor.name}, whose setTimesteps does not`)
  }
  scheduler.setTimesteps(undefined, given)
  return scheduler.timesteps.length
}

/** False where the source shows that `method` cannot see the option `name`; true where it can, or where the source does not tell. */
function takesOption(method: unknown, name: string): boolean {
  const source = Function.prototype.toString.call(method).replaceAll(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '')
  if (source.includes('[native code]')) return true
  const { parameters, body } = splitParameters(source)
  const [, options, ...more] = parameters
  if (parameters.some((parameter) => parameter.startsWith('...')) || more.length > 0 || /\barguments\b/.test(body)) return true
  if (options === undefined) return false
  const destructured = /^\{([\s\S]*)\}/.exec(options)
  if (destructured !== null) return options.includes('...') || new RegExp(String.raw`\b${name}\b`).test(destructured[1] ?? '')
  const variable = /^[\p{ID_Start}$_][\p{ID_Continue}$]*/u.exec(options)?.[0]?.replaceAll('$', String.raw`\$`)
  // Reads `options.sigmas`, takes it apart, or hands the whole object on.
  return (
    new RegExp(String.raw`\b${variable}\s*\??\s*\.?\s*(?:\.|\[['"])\s*${name}\b`).test(body) ||
    new RegExp(String.raw`\{[^{}]*(?:\b${name}\b|\.\.\.)[^{}]*\}\s*=\s*${variable}\b`).test(body) ||
    new RegExp(String.raw`[(,{]\s*(?:\.\.\.)?${variable}\s*[,)}]`).test(body)
  )
}

/** Cuts the source of a function into its top-level parameters and what follows them. */
function splitParameters(source: string): { parameters: string[]; body: string } {
  const start = source.indexOf('(')
  const parameters: string[] = []
  let depth = 0
  let from = start + 1
  for (let at = start; at < source.length; at++) {
    const sign = source.charAt(at)
    if ('([{'.includes(sign)) depth++
    if (')]}'.includes(sign)) depth--
    if (depth === 0 || (depth === 1 && sign === ',')) {
      const parameter = source.slice(from, at).trim()
      if (parameter !== '') parameters.push(parameter)
      from = at + 1
    }
    if (depth === 0) return { parameters, body: source.slice(at + 1) }
  }
  return { parameters, body: '' }
}
