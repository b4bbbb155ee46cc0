/**
 * Runs many requests at once on one resident pipeline: every `generate` works on a view of its own, which shares the weights and keeps the
 * scheduler and other mutable state separate. A class that offers `cloneForRequest()` makes its views itself, and nothing else about it is
 * inspected; any other class is copied from outside. Invariant: after any number of calls, including failed ones, the base pipeline holds
 * the same objects as before. A view that cannot be made safely is an error, never a fallback to shared state.
 * Works for any object with `generate(params)`; knows nothing about the model inside. Runs wherever the pipeline runs.
 */
import { BaseAsyncScheduler } from './base-async-scheduler.ts'
import { classNameOf } from './clone-mutable.ts'
import { defaultLockOf, isLocked, type Lock, lockComponent, serialisedMethods } from './locked-component.ts'
import { isTokenizer, lockTokenizer } from './locked-tokenizer.ts'
import { runInOffloadContext } from './offload-context.ts'
import { explainMissingPrivateMember } from './private-members.ts'
import { assertNothingTied, createRequestView, type ViewSettings } from './request-view.ts'
import type { ScheduleOptions, SchedulerLike } from '../schedulers/retrieve-timesteps.ts'
import { offeredCopy } from './shallow-view.ts'

/** What a pipeline must offer. On a view its tokenizers, VAE and image processor return promises, which it has to await. */
export interface GeneratingPipeline {
  // `never` accepts a method with parameters of any type; the caller's own types come back through GenerateParams.
  generate(...params: never[]): unknown
}

export interface RequestScopedLogger {
  debug(message: string): void
  warn(message: string): void
}

/** All except the logger say how to copy a pipeline from outside; they have no effect on a class that offers `cloneForRequest()`. */
export interface RequestScopedPipelineOptions {
  /** Attributes copied for every request, including class instances; missing ones are skipped. Default: `defaultMutableAttrs`. */
  mutableAttrs?: Iterable<string>
  /**
   * Attributes that requests share with the base as they are; they are never copied, replaced or refused. This is the only way to keep an
   * arrow field or a bound method. Such a function always runs on the base, so name only those that use nothing of a request. An attribute
   * must not be in `mutableAttrs` as well. Default none.
   */
  sharedAttrs?: Iterable<string>
  /** Whether to look for further attributes that hold mutable state at every call, and to copy them. Default true. */
  autoDetectMutables?: boolean
  /** Tensors and typed arrays with more elements than this stay shared with the base. Number of elements, 0 or more. Default 1_000_000. */
  tensorNumelThreshold?: number
  /** The mutex under which all tokenizers of the pipeline take turns; several pipelines may share it. Default: one per base pipeline. */
  tokenizerLock?: Lock
  /** Whether the constructor wraps the base's own scheduler. Each request gets a wrapped copy in any case. Default true. */
  wrapScheduler?: boolean
  /** Receives why an attribute was skipped (debug) and when only a deep copy was possible (warn, once). Default none. */
  logger?: RequestScopedLogger
}

export const defaultMutableAttrs: readonly string[] = [
  '_allHooks',
  '_offloadDevice',
  '_progressBarConfig',
  '_progressBar',
  '_rngState',
  '_lastSeed',
  'latents',
]

/** The offload context belongs to the device, which all requests share. */
const alwaysShared = 'modelCpuOffloadContext'

export class RequestScopedPipeline<P extends GeneratingPipeline> {
  readonly #base: P
  readonly #settings: ViewSettings
  readonly #tokenizerLock: Lock
  #warned = false

  constructor(pipeline: P, options: RequestScopedPipelineOptions = {}) {
    if (typeof pipeline !== 'object' || pipeline === null || typeof pipeline.generate !== 'function') {
      throw new TypeError(`Expected a pipeline with a generate method, got ${classNameOf(pipeline)}`)
    }
    const { tensorNumelThreshold = 1_000_000, tokenizerLock, logger } = options
    if (typeof tensorNumelThreshold !== 'number' || !(tensorNumelThreshold >= 0)) {
      throw new RangeError(`Expected tensorNumelThreshold to be a number from 0 up, got ${String(tensorNumelThreshold)}`)
    }
    if (tokenizerLock !== undefined && typeof tokenizerLock.runExclusive !== 'function') {
      throw new TypeError(`Expected tokenizerLock to be a mutex with runExclusive, got ${classNameOf(tokenizerLock)}`)
    }
    const mutableAttrs = [...(options.mutableAttrs ?? defaultMutableAttrs)]
    const sharedAttrs = new Set([alwaysShared, ...(options.sharedAttrs ?? [])])
    const both = options.mutableAttrs === undefined ? undefined : mutableAttrs.find((name) => sharedAttrs.has(name))
    if (both !== undefined) throw new TypeError(`Expected ${both} in mutableAttrs or in sharedAttrs, got it in both`)
    this.#base = pipeline
    this.#tokenizerLock = tokenizerLock ?? defaultLockOf(pipeline)
    this.#settings = {
      mutableAttrs,
      sharedAttrs,
      autoDetectMutables: options.autoDetectMutables ?? true,
      tensorNumelThreshold,
      component: (component, name) => this.#scopedComponent(component, name),
      debug: (message) => logger?.debug(message),
      warn: (message) => {
        if (!this.#warned) logger?.warn(message)
        this.#warned = true
      },
    }
    if (typeof Reflect.get(pipeline, 'cloneForRequest') === 'function') return
    assertNothingTied(pipeline, this.#settings)
    if (options.wrapScheduler ?? true) this.#wrapBaseScheduler()
  }

  /** The base's own components as they are now; undefined where it has none. */
  get unet(): unknown {
    return Reflect.get(this.#base, 'unet')
  }
  get vae(): unknown {
    return Reflect.get(this.#base, 'vae')
  }
  get textEncoder(): unknown {
    return Reflect.get(this.#base, 'textEncoder')
  }
  get transformer(): unknown {
    return Reflect.get(this.#base, 'transformer')
  }
  get components(): unknown {
    return Reflect.get(this.#base, 'components')
  }

  /** Runs the pipeline's `generate` once, with exactly these parameters, on a view of its own. */
  async generate(...params: Parameters<P['generate']>): Promise<Awaited<ReturnType<P['generate']>>> {
    const run = async (view: P): Promise<Awaited<ReturnType<P['generate']>>> =>
      (await runInOffloadContext(view, (): unknown => view.generate(...params))) as Awaited<ReturnType<P['generate']>>
    const offered = offeredCopy(this.#base, 'cloneForRequest')
    if (offered !== undefined) return await run(offered)
    try {
      return await run(createRequestView(this.#base, this.#requestScheduler(params[0]), this.#settings))
    } catch (error) {
      throw explainMissingPrivateMember(error, classNameOf(this.#base))
    }
  }

  #wrapBaseScheduler(): void {
    const scheduler: unknown = Reflect.get(this.#base, 'scheduler')
    if (scheduler === undefined || scheduler === null || scheduler instanceof BaseAsyncScheduler) return
    let reason = 'it is read-only'
    try {
      if (Reflect.set(this.#base, 'scheduler', new BaseAsyncScheduler(scheduler as SchedulerLike))) return
    } catch (error) {
      reason = (error as Error).message
    }
    this.#settings.debug(`scheduler of the base is left as it is: ${reason}`)
  }

  /** A copy of the base's scheduler with the request's schedule, or without one where only the pipeline can know the shift. */
  #requestScheduler(params: unknown): BaseAsyncScheduler | undefined {
    const base = (Reflect.get(this.#base, 'scheduler') ?? undefined) as SchedulerLike | undefined
    if (base === undefined) return undefined
    const wrapper = base instanceof BaseAsyncScheduler ? base : new BaseAsyncScheduler(base)
    const { numInferenceSteps, device, mu, sigmas, timesteps } = (params ?? {}) as ScheduleOptions & { numInferenceSteps?: number }
    const { config } = wrapper.scheduler as { config?: { useDynamicShifting?: unknown } | undefined }
    const copy: unknown =
      config?.useDynamicShifting === true && mu === undefined
        ? wrapper.cloneForRequest()
        : wrapper.cloneForRequest(numInferenceSteps, { device, mu, sigmas, timesteps })
    if (!(copy instanceof BaseAsyncScheduler) || copy.scheduler === wrapper.scheduler) {
      throw new Error(
        `Expected ${classNameOf(wrapper)}.cloneForRequest() to copy the scheduler, got the same ${classNameOf(wrapper.scheduler)}`,
      )
    }
    return copy
  }

  #scopedComponent(component: object, name: string): object {
    if (isLocked(component)) return component
    if (isTokenizer(component, name)) return lockTokenizer(component, this.#tokenizerLock)
    const methods = serialisedMethods(component, name)
    if (methods !== undefined) return lockComponent(component, defaultLockOf(component), methods)
    if (isScheduler(component)) return BaseAsyncScheduler.prototype.cloneForRequest.call(new BaseAsyncScheduler(component))
    return component
  }
}

/** A second scheduler, whatever its name, is as mutable as the first. */
function isScheduler(component: object): component is SchedulerLike {
  const { setTimesteps, step } = component as { setTimesteps?: unknown; step?: unknown }
  return typeof setTimesteps === 'function' && typeof step === 'function'
}
