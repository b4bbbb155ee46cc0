/**
 * A scheduler that hands out copies of itself: a transparent proxy around any scheduler, so that a request works on its own copy while
 * everything else sees the scheduler it knows. Reads fall through to the inner scheduler, its methods run with it as `this`, and a write goes
 * to it if it has a member of that name. A copy that cannot be made is an error that names the class; nothing is ever shared instead.
 * Knows nothing about pipelines.
 */
import { inspect } from 'node:util'
import { classNameOf, deepCopy } from './clone-mutable.ts'
import { bindMethod } from './bind-method.ts'
import { explainMissingPrivateMember } from './private-members.ts'
import { retrieveTimesteps, type ScheduleOptions, type SchedulerLike } from '../schedulers/retrieve-timesteps.ts'

/** The members that subclasses and readers may rely on besides the inner scheduler's own. */
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
   * A copy for one request, in a wrapper of the same class. With `numInferenceSteps`, `timesteps` or `sigmas` the copy is configured already;
   * without them it has the state of this scheduler, and whoever runs it configures it.
   */
  cloneForRequest(numInferenceSteps?: number, options: ScheduleOptions = {}): this {
    const copy = copyScheduler(this.scheduler, numInferenceSteps, options)
    try {
      if (numInferenceSteps !== undefined || (options.timesteps ?? options.sigmas) !== undefined)
        retrieveTimesteps(copy, numInferenceSteps, options)
    } catch (error) {
      throw explainMissingPrivateMember(error, classNameOf(this.scheduler))
    }
    const Wrapper = this.constructor as new (scheduler: T) => this
    const wrapper = new Wrapper(copy)
    for (const key of Reflect.ownKeys(this)) {
      const state: unknown = Reflect.get(this, key)
      // The new wrapper's own functions are bound to the new wrapper; those of this one must not replace them.
      if (key === 'scheduler' || (typeof state === 'function' && Object.hasOwn(wrapper, key))) continue
      Object.defineProperty(wrapper, key, { value: deepCopy(state), writable: true, configurable: true, enumerable: true })
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
    // stepGuided replaces `step`, so it must not bypass a `step` that the wrapper itself defines.
    if (key === 'stepGuided' && Reflect.has(wrapper, 'step')) return undefined
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

/** A copy of a bare scheduler, made by its own `cloneForRequest`, else by its `clone`, else as a deep copy. */
export function copyScheduler<T extends SchedulerLike>(scheduler: T, numInferenceSteps?: number, options: ScheduleOptions = {}): T {
  const own = scheduler as { cloneForRequest?: (steps?: number, options?: ScheduleOptions) => unknown }
  const copy =
    typeof own.cloneForRequest === 'function' ? innerScheduler(own.cloneForRequest(numInferenceSteps, options) as T) : deepCopy(scheduler)
  if (copy !== scheduler && typeof copy?.setTimesteps === 'function') return copy
  const got = copy === scheduler ? 'the same one' : classNameOf(copy)
  throw new TypeError(`Expected ${classNameOf(scheduler)} to give another scheduler as its copy, got ${got}`)
}
