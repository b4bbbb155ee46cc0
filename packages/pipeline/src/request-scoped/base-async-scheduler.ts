/**
 * A scheduler that hands out copies of itself: a transparent proxy round any scheduler, so that a request works on its own copy while
 * everything else sees the scheduler it knows. Reads fall through to the inner scheduler, its methods run with it as `this`, writes go to it
 * where it has the name. A copy that cannot be made is an error that names the class; nothing is ever shared instead.
 * Knows nothing about pipelines.
 */
import { inspect } from 'node:util'
import { classNameOf, deepCopy } from './clone-mutable.ts'
import { bindMethod } from './bind-method.ts'
import { type ScheduleOptions, type SchedulerLike, setSchedule } from '../schedulers/set-schedule.ts'

/** What subclasses and readers may count on besides the inner scheduler's own members. */
export class BaseAsyncScheduler<T extends SchedulerLike = SchedulerLike> {
  /** The scheduler this one stands for; never itself a BaseAsyncScheduler. */
  scheduler: T

  constructor(scheduler: T | BaseAsyncScheduler<T>) {
    this.scheduler = scheduler instanceof BaseAsyncScheduler ? scheduler.scheduler : scheduler
    if (typeof this.scheduler !== 'object' || this.scheduler === null) {
      throw new TypeError(`Expected a scheduler, got ${classNameOf(scheduler)}`)
    }
    return new Proxy<this>(this, passThrough)
  }

  /**
   * A copy for one request, in a wrapper of the same class. With `numInferenceSteps`, `timesteps` or `sigmas` it comes configured;
   * without, it has the state of this one and whoever runs it configures it.
   */
  cloneForRequest(numInferenceSteps?: number, options: ScheduleOptions = {}): this {
    const copy = copyScheduler(this.scheduler, numInferenceSteps, options)
    if (numInferenceSteps !== undefined || (options.timesteps ?? options.sigmas) !== undefined)
      setSchedule(copy, numInferenceSteps, options)
    const Wrapper = this.constructor as new (scheduler: T) => this
    const wrapper = new Wrapper(copy)
    // State that writes have put on the wrapper itself.
    for (const key of Reflect.ownKeys(this)) {
      if (key !== 'scheduler' && !Object.hasOwn(wrapper, key)) Reflect.set(wrapper, key, deepCopy(Reflect.get(this, key)))
    }
    return wrapper
  }

  toString(): string {
    return `${this.constructor.name} wrapping ${classNameOf(this.scheduler)}`
  }

  [inspect.custom](depth: number, options: object): string {
    return depth < 0
      ? `${this.constructor.name}(${classNameOf(this.scheduler)})`
      : `${this.constructor.name}(${inspect(this.scheduler, options)})`
  }
}

const passThrough: ProxyHandler<BaseAsyncScheduler> = {
  get(wrapper, key, receiver) {
    if (Reflect.has(wrapper, key)) return Reflect.get(wrapper, key, receiver)
    return bindMethod(wrapper.scheduler, key)
  },
  set(wrapper, key, value, receiver) {
    if (key !== 'scheduler' && Reflect.has(wrapper.scheduler, key)) return Reflect.set(wrapper.scheduler, key, value)
    return Reflect.set(wrapper, key, value, receiver)
  },
  has(wrapper, key) {
    return Reflect.has(wrapper, key) || Reflect.has(wrapper.scheduler, key)
  },
}

/** The scheduler without its wrapper. */
export function innerScheduler<T extends SchedulerLike>(scheduler: T | BaseAsyncScheduler<T>): T {
  return scheduler instanceof BaseAsyncScheduler ? scheduler.scheduler : scheduler
}

/** A copy of a bare scheduler: by its own `cloneForRequest`, its `clone`, or a deep copy; otherwise an error that names its class. */
export function copyScheduler<T extends SchedulerLike>(scheduler: T, numInferenceSteps?: number, options: ScheduleOptions = {}): T {
  const own = scheduler as { cloneForRequest?: (steps?: number, options?: ScheduleOptions) => unknown }
  let firstFailure: unknown
  if (typeof own.cloneForRequest === 'function') {
    try {
      return assertOwnCopy(scheduler, innerScheduler(own.cloneForRequest(numInferenceSteps, options) as T))
    } catch (error) {
      firstFailure = error
    }
  }
  try {
    return assertOwnCopy(scheduler, deepCopy(scheduler))
  } catch (error) {
    const reasons = [firstFailure, error].filter((failure) => failure !== undefined).map((failure) => (failure as Error).message)
    const expected = `Expected a scheduler that can be copied for a request, got ${classNameOf(scheduler)}`
    throw new Error(`${expected}: ${reasons.join('; ')}`, { cause: error })
  }
}

function assertOwnCopy<T extends SchedulerLike>(scheduler: T, copy: T): T {
  if (copy === scheduler || typeof copy?.setTimesteps !== 'function') {
    throw new TypeError(`Expected another scheduler, got ${copy === scheduler ? 'the same one' : classNameOf(copy)}`)
  }
  return copy
}
