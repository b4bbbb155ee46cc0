import { Mutex } from 'async-mutex'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Generator, Tensor } from '../index.ts'
import { BaseAsyncScheduler } from './base-async-scheduler.ts'
import { defaultMutableAttrs, RequestScopedPipeline } from './request-scoped-pipeline.ts'

class Scheduler {
  readonly accepts = ['sigmas'] as const
  timesteps: number[] = []
  shift = 3
  config = { name: 'plain' }
  setTimesteps(steps: number | undefined, options: { sigmas?: number[]; mu?: number } = {}): void {
    this.timesteps = options.sigmas?.map((sigma) => sigma * 1000) ?? Array.from({ length: steps ?? 0 }, (_, i) => 1000 - i)
  }
  step(): void {}
}

class Weights {
  data = new Float32Array(8)
}

class FakeTokenizer {
  running = 0
  most = 0
  vocabSize = 10
  async encode(text: string): Promise<number[]> {
    this.most = Math.max(this.most, ++this.running)
    await turn()
    this.running--
    if (text === 'bad') throw new Error('bad text')
    return [text.length]
  }
  idsOf(text: string): number[] {
    return [text.length]
  }
}

/** A pipeline class that this library does not know; it shows a test its view. */
class Pipeline {
  scheduler: unknown = new Scheduler()
  transformer = new Weights()
  tokenizer = new FakeTokenizer()
  latents: unknown = new Tensor(new Float32Array([1, 2]), [2])
  history: unknown[] = []
  generate(params: { look?: (view: Pipeline) => unknown; numInferenceSteps?: number; sigmas?: number[] } = {}): unknown {
    return params.look?.(this)
  }
}

/** Returns what `read` sees on the view of one call. */
async function onView<P extends Pipeline, T>(scoped: RequestScopedPipeline<P>, read: (view: P) => T): Promise<T> {
  const params = { look: read } as unknown as Parameters<P['generate']>[0]
  return (await scoped.generate(...([params] as unknown as Parameters<P['generate']>))) as T
}

function withAttributes<T extends object>(attributes: T): Pipeline & T {
  return Object.assign(new Pipeline(), attributes)
}

describe('the options for mutable attributes', () => {
  it('are a default list, of which names that the pipeline lacks are skipped', async () => {
    const pipe = withAttributes({ _lastSeed: { value: 1 } })
    const seen = await onView(new RequestScopedPipeline(pipe, { autoDetectMutables: false }), (view) => [view._lastSeed, view.latents])
    expect(seen[0]).toEqual({ value: 1 })
    expect(seen[0]).not.toBe(pipe._lastSeed)
    expect(seen[1]).not.toBe(pipe.latents)
    expect(defaultMutableAttrs).toEqual([
      '_allHooks',
      '_offloadDevice',
      '_progressBarConfig',
      '_progressBar',
      '_rngState',
      '_lastSeed',
      'latents',
    ])
  })

  it('let mutableAttrs replace that list, to which detection adds', async () => {
    const pipe = withAttributes({ extra: [1], other: [2] })
    const listOnly = new RequestScopedPipeline(pipe, { mutableAttrs: ['extra'], autoDetectMutables: false })
    expect(await onView(listOnly, (view) => [view.extra === pipe.extra, view.other === pipe.other, view.latents === pipe.latents])).toEqual(
      [false, true, true],
    )
    const detecting = new RequestScopedPipeline(pipe, { mutableAttrs: ['extra'] })
    expect(await onView(detecting, (view) => [view.extra === pipe.extra, view.other === pipe.other])).toEqual([false, false])
  })

  it('are refused where they cannot work, with what was expected and what came', () => {
    const pipe = new Pipeline()
    expect(() => new RequestScopedPipeline(pipe, { tensorNumelThreshold: -1 })).toThrow(/tensorNumelThreshold .* got -1/)
    expect(() => new RequestScopedPipeline(pipe, { tokenizerLock: {} as Mutex })).toThrow(/runExclusive/)
    expect(() => new RequestScopedPipeline({} as Pipeline)).toThrow(/generate method/)
    expect(() => new RequestScopedPipeline(pipe, { mutableAttrs: ['history'], sharedAttrs: ['history'] })).toThrow(
      /history .* got it in both/,
    )
  })
})

describe('detection', () => {
  it('looks at every attribute at every call, even at those added later or beyond the fortieth', async () => {
    const many = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`attribute${i}`, [i]]))
    const pipe = withAttributes(many)
    const scoped = new RequestScopedPipeline(pipe)
    const shared = (): Promise<string[]> =>
      onView(scoped, (view) => Object.keys(many).filter((name) => Reflect.get(view, name) === Reflect.get(pipe, name)))
    expect(await shared()).toEqual([])
    Object.assign(pipe, { late: { a: 1 } })
    expect(await onView(scoped, (view) => Reflect.get(view, 'late') === Reflect.get(pipe, 'late'))).toBe(false)
  })

  it('leaves classes, shared functions and throwing accessors alone, copies what a read-only accessor returns, and says so at debug', async () => {
    const notes: string[] = []
    const fn = (): number => 1
    class Odd extends Pipeline {
      fn = fn
      Kind = Weights
      kept = [1]
      get explosive(): never {
        throw new Error('boom')
      }
      get readOnly(): number[] {
        return fixed
      }
    }
    const fixed = [1]
    const pipe = new Odd()
    const scoped = new RequestScopedPipeline(pipe, { sharedAttrs: ['fn'], logger: { debug: (note) => notes.push(note), warn: () => {} } })
    expect(
      await onView(scoped, (view) => [view.fn === fn, view.Kind === Weights, view.readOnly === fixed, view.kept === pipe.kept]),
    ).toEqual([true, true, false, false])
    expect(await onView(scoped, (view) => view.readOnly)).toEqual(fixed)
    expect(notes.join('\n')).toMatch(/explosive .*boom/)
    expect(notes.join('\n')).toMatch(/readOnly .* copy .* read-only/)
  })

  it('never copies components as state, even when it is writable and listed', async () => {
    const weights = new Weights()
    const pipe = withAttributes({ components: { weights } })
    const scoped = new RequestScopedPipeline(pipe, { mutableAttrs: ['components'] })
    expect(await onView(scoped, (view) => view.components.weights)).toBe(weights)
    expect(pipe.components).toEqual({ weights })
  })
})

describe('what is copied', () => {
  it('arrays, maps, sets and plain objects to full depth, keeping their types, with class instances inside shared', async () => {
    const weights = new Weights()
    const state = { list: [[1], { deep: [2] }], map: new Map([['k', { v: 1 }]]), set: new Set([[3]]), weights }
    const pipe = withAttributes({ state })
    await onView(new RequestScopedPipeline(pipe), (view) => {
      expect(view.state).toEqual(state)
      expect(view.state.weights).toBe(weights)
      expect(view.state.map).toBeInstanceOf(Map)
      expect(view.state.set).toBeInstanceOf(Set)
      ;(view.state.list[1] as { deep: number[] }).deep.push(9)
      const inner = view.state.map.get('k')
      if (inner !== undefined) inner.v = 9
      for (const entry of view.state.set) entry.push(9)
    })
    expect(state).toEqual({ list: [[1], { deep: [2] }], map: new Map([['k', { v: 1 }]]), set: new Set([[3]]), weights })
  })

  it('typed arrays and tensors up to the threshold, and none above it', async () => {
    const pipe = withAttributes({
      small: new Float32Array(4),
      large: new Float32Array(5),
      tensor: new Tensor(new Float32Array(4), [4]),
      huge: new Tensor(new Float32Array(5), [5]),
    })
    const scoped = new RequestScopedPipeline(pipe, { tensorNumelThreshold: 4 })
    const shared = await onView(scoped, (view) => [
      view.small === pipe.small,
      view.large === pipe.large,
      view.tensor === pipe.tensor,
      view.huge === pipe.huge,
    ])
    expect(shared).toEqual([false, true, false, true])
    expect(await onView(scoped, (view) => [view.small.constructor.name, view.tensor.constructor.name])).toEqual(['Float32Array', 'Tensor'])
  })

  it('generators, with their state', async () => {
    const generator = new Generator(7)
    const pipe = withAttributes({ generator })
    const draws = await onView(new RequestScopedPipeline(pipe), (view) => [view.generator === generator, view.generator.getState()])
    expect(draws).toEqual([false, generator.getState()])
  })

  it('generators of other libraries, known by manualSeed and clone', async () => {
    class Dice {
      seed = 1
      manualSeed(seed: number): void {
        this.seed = seed
      }
      clone(): Dice {
        return Object.assign(new Dice(), { seed: this.seed })
      }
    }
    const pipe = withAttributes({ dice: new Dice() })
    await onView(new RequestScopedPipeline(pipe), (view) => view.dice.manualSeed(9))
    expect(pipe.dice.seed).toBe(1)
  })

  it('a list of callbacks as a new list of the same functions', async () => {
    const callback = (): void => {}
    const pipe = withAttributes({ callbacks: [callback] })
    await onView(new RequestScopedPipeline(pipe), (view) => {
      expect(view.callbacks).not.toBe(pipe.callbacks)
      expect(view.callbacks[0]).toBe(callback)
    })
  })

  it('structures with cycles, once', async () => {
    const cycle: { self?: unknown; list: unknown[] } = { list: [] }
    cycle.self = cycle
    cycle.list.push(cycle)
    const pipe = withAttributes({ cycle })
    await onView(new RequestScopedPipeline(pipe), (view) => {
      expect(view.cycle).not.toBe(cycle)
      expect(view.cycle.self).toBe(view.cycle)
      expect(view.cycle.list[0]).toBe(view.cycle)
    })
  })
})

describe('the view', () => {
  it('is a shallow copy of the same class whose own writes do not reach the base', async () => {
    const pipe = new Pipeline()
    const scoped = new RequestScopedPipeline(pipe)
    const view = await onView(scoped, (own) => {
      Object.assign(own, { added: 1 })
      own.history.push('x')
      return own
    })
    expect(view).toBeInstanceOf(Pipeline)
    expect(view).not.toBe(pipe)
    expect(view.transformer).toBe(pipe.transformer)
    expect(pipe.history).toEqual([])
    expect('added' in pipe).toBe(false)
  })

  it('is a deep copy, with one warning, where the class extends a built-in that cannot be copied shallowly', async () => {
    class Listing extends Array<number> {
      state = [1]
      generate(params: { look?: (view: Listing) => unknown } = {}): unknown {
        return params.look?.(this)
      }
    }
    const pipe = new Listing()
    pipe.push(5)
    const warnings: string[] = []
    const scoped = new RequestScopedPipeline(pipe, { logger: { debug: () => {}, warn: (text) => warnings.push(text) } })
    for (let i = 0; i < 3; i++) {
      const look = (view: Listing): unknown => [view === pipe, view[0], view.state === pipe.state]
      expect(await scoped.generate({ look })).toEqual([false, 5, false])
    }
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toContain('Listing')
  })

  it('of a class with #private fields fails at its first use, saying what to add, unless the class offers cloneForRequest or clone', async () => {
    class Closed {
      #count = 0
      generate(): number {
        return ++this.#count
      }
    }
    await expect(new RequestScopedPipeline(new Closed()).generate()).rejects.toThrow(/Closed .*cloneForRequest\(\).* or clone\(\).*#count/)
    class Open extends Closed {
      cloneForRequest(): Open {
        return new Open()
      }
    }
    const base = new Open()
    const scoped = new RequestScopedPipeline(base)
    expect([await scoped.generate(), await scoped.generate()]).toEqual([1, 1])
    class Lying extends Closed {
      clone(): this {
        return this
      }
    }
    await expect(new RequestScopedPipeline(new Lying()).generate()).rejects.toThrow(/Lying.*the same object/)
  })

  it('of an object that cannot be copied is an error that names its class, instead of shared state', async () => {
    class Slippery {
      generate(): number {
        return 1
      }
    }
    const proxied = new Proxy(new Slippery(), {})
    await expect(new RequestScopedPipeline(proxied).generate()).rejects.toThrow(/Slippery/)
  })
})

describe('the scheduler', () => {
  it('of each request is a wrapped clone with the request’s schedule; requests at once do not disturb each other', async () => {
    const pipe = new Pipeline()
    const scoped = new RequestScopedPipeline(pipe)
    const look = async (view: Pipeline): Promise<number> => {
      const scheduler = view.scheduler as Scheduler & BaseAsyncScheduler
      expect(scheduler).toBeInstanceOf(BaseAsyncScheduler)
      const before = scheduler.timesteps.length
      await turn()
      expect(scheduler.timesteps.length).toBe(before)
      return before
    }
    const steps = [3, 8, 1, 20]
    expect(await Promise.all(steps.map((numInferenceSteps) => scoped.generate({ look, numInferenceSteps })))).toEqual(steps)
    expect((pipe.scheduler as Scheduler).timesteps).toEqual([])
    expect(await scoped.generate({ look, sigmas: [1, 0.5] })).toBe(2)
  })

  it('is wrapped on the base by default, and left as it is with wrapScheduler false while requests still get their clones', async () => {
    const wrapped = new Pipeline()
    const inner = wrapped.scheduler
    const first = new RequestScopedPipeline(wrapped)
    expect(wrapped.scheduler).toBeInstanceOf(BaseAsyncScheduler)
    expect((wrapped.scheduler as BaseAsyncScheduler).scheduler).toBe(inner)
    const once = wrapped.scheduler
    const second = new RequestScopedPipeline(wrapped)
    expect(wrapped.scheduler).toBe(once)
    expect([first, second].map((scoped) => scoped.transformer)).toEqual([wrapped.transformer, wrapped.transformer])

    const bare = new Pipeline()
    const original = bare.scheduler
    const scoped = new RequestScopedPipeline(bare, { wrapScheduler: false })
    expect(bare.scheduler).toBe(original)
    const own = (await onView(scoped, (view) => view.scheduler)) as BaseAsyncScheduler
    expect(own).toBeInstanceOf(BaseAsyncScheduler)
    expect(own.scheduler).not.toBe(original)
  })

  it('uses cloneForRequest, else a deep copy, else is an error that names the class', async () => {
    class Cloning extends Scheduler {
      made = 0
      cloneForRequest(): Cloning {
        const copy = new Cloning()
        copy.made = this.made + 1
        return copy
      }
    }
    const cloning = withAttributes({ scheduler: new Cloning() })
    expect(await onView(new RequestScopedPipeline(cloning), (view) => view.scheduler.made)).toBe(1)

    class Hidden extends Scheduler {
      #secret = 1
      override setTimesteps(steps: number | undefined): void {
        super.setTimesteps((steps ?? 0) + this.#secret)
      }
    }
    const hidden = new RequestScopedPipeline(withAttributes({ scheduler: new Hidden() }))
    await expect(hidden.generate({ numInferenceSteps: 1 })).rejects.toThrow(/Hidden .*#secret/)
    const sharing = withAttributes({
      scheduler: Object.assign(new Scheduler(), {
        cloneForRequest: null,
        clone() {
          return this
        },
      }),
    })
    await expect(new RequestScopedPipeline(sharing).generate()).rejects.toThrow(/same/)
  })

  it('may need a shift that only the pipeline knows: it then comes without a schedule, to be configured there', async () => {
    class Dynamic extends Scheduler {
      override config = { name: 'dynamic', useDynamicShifting: true }
      override setTimesteps(steps: number | undefined, options: { sigmas?: number[]; mu?: number } = {}): void {
        if (options.mu === undefined) throw new Error('Expected mu with dynamic shifting, got none')
        super.setTimesteps(steps)
      }
    }
    const pipe = withAttributes({ scheduler: new Dynamic() })
    const look = (view: typeof pipe): number => {
      view.scheduler.setTimesteps(5, { mu: 1 })
      return view.scheduler.timesteps.length
    }
    expect(await new RequestScopedPipeline(pipe).generate({ numInferenceSteps: 5, look: look as (view: Pipeline) => number })).toBe(5)
  })

  it('takes the request’s mu and device along, and refuses a schedule that it cannot run instead of running another', async () => {
    const seen: unknown[] = []
    class Recording extends Scheduler {
      override setTimesteps(steps: number | undefined, options?: { sigmas?: number[]; mu?: number }): void {
        seen.push([steps, options])
        super.setTimesteps(steps, options)
      }
    }
    const scoped = new RequestScopedPipeline(withAttributes({ scheduler: new Recording() }))
    const params = { numInferenceSteps: 3, mu: 0.7, device: 'cpu' }
    await scoped.generate(params)
    expect(seen).toEqual([[3, { mu: 0.7, device: 'cpu' }]])
    const refused = { timesteps: [1000, 500] } as object
    await expect(scoped.generate(refused)).rejects.toThrow('Expected a scheduler that takes custom timesteps, got Recording')
    expect(seen).toHaveLength(1)
  })

  it('is copied with everything it holds, however deep', async () => {
    class Noise {
      levels = { drawn: [1] }
    }
    class Deep extends Scheduler {
      noise = new Noise()
    }
    const pipe = withAttributes({ scheduler: new Deep() })
    await onView(new RequestScopedPipeline(pipe), (view) => view.scheduler.noise.levels.drawn.push(2))
    expect(pipe.scheduler.noise.levels.drawn).toEqual([1])
  })

  it('may be missing', async () => {
    class Bare {
      generate(): string {
        return 'done'
      }
    }
    expect(await new RequestScopedPipeline(new Bare()).generate()).toBe('done')
  })
})

describe('tokenizers', () => {
  it('are recognised by methods and name or attributes, on the pipeline and inside components; a VAE is not one', async () => {
    class Encoder {
      encode(): number {
        return 1
      }
      decode(): number {
        return 2
      }
    }
    class Words extends Encoder {
      padToken = '_'
    }
    const shared = { named: new Encoder(), words: new Words(), vaeLike: new Encoder() }
    const pipe = withAttributes({
      tokenizer2: shared.named,
      words: shared.words,
      features: shared.vaeLike,
      components: { tokenizer2: shared.named, features: shared.vaeLike },
    })
    await onView(new RequestScopedPipeline(pipe), (view) => {
      expect(view.tokenizer2).not.toBe(shared.named)
      expect(view.words).not.toBe(shared.words)
      expect(view.features).toBe(shared.vaeLike)
      expect(view.components.tokenizer2).toBe(view.tokenizer2)
      expect(view.components.features).toBe(shared.vaeLike)
    })
  })

  it('pass on everything but their calls, and a call that throws releases the lock', async () => {
    const pipe = new Pipeline()
    await onView(new RequestScopedPipeline(pipe), async (view) => {
      expect(view.tokenizer.vocabSize).toBe(10)
      expect(view.tokenizer.idsOf('abc')).toEqual([3])
      view.tokenizer.vocabSize = 11
      await expect(view.tokenizer.encode('bad')).rejects.toThrow('bad text')
      expect(await view.tokenizer.encode('good')).toEqual([4])
    })
    expect(pipe.tokenizer.vocabSize).toBe(11)
  })

  it('of several wrappers take turns under one mutex given to all of them', async () => {
    const tokenizerLock = new Mutex()
    const tokenizer = new FakeTokenizer()
    const wrappers = [0, 1].map(() => new RequestScopedPipeline(withAttributes({ tokenizer }), { tokenizerLock }))
    const look = (view: Pipeline): Promise<number[]> => view.tokenizer.encode('x')
    await Promise.all(wrappers.flatMap((scoped) => [1, 2, 3].map(() => scoped.generate({ look }))))
    expect(tokenizer.most).toBe(1)
  })

  it('are not wrapped twice when a wrapper is put around a pipeline whose tokenizer already comes from a view', async () => {
    const pipe = new Pipeline()
    const locked = await onView(new RequestScopedPipeline(pipe), (view) => view.tokenizer)
    const again = withAttributes({ tokenizer: locked })
    expect(await onView(new RequestScopedPipeline(again), (view) => view.tokenizer)).toBe(locked)
  })
})

describe('the base', () => {
  it('holds the same objects after any number of calls, including failed ones', async () => {
    const pipe = withAttributes({ components: { tokenizer: new FakeTokenizer() }, state: { a: [1] } })
    const scoped = new RequestScopedPipeline(pipe)
    const before = Object.entries(pipe)
    const componentsBefore = Object.entries(pipe.components)
    const fail = (): never => {
      throw new Error('failed')
    }
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => scoped.generate(i % 2 === 0 ? { look: fail } : {})))
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(10)
    expect(before.filter(([name, value]) => Reflect.get(pipe, name) !== value)).toEqual([])
    expect(componentsBefore.filter(([name, value]) => Reflect.get(pipe.components, name) !== value)).toEqual([])
  })

  it('shows its parts through the wrapper, undefined where absent', () => {
    const pipe = withAttributes({ vae: new Weights() })
    const scoped = new RequestScopedPipeline(pipe)
    expect([scoped.transformer, scoped.vae, scoped.unet, scoped.textEncoder, scoped.components]).toEqual([
      pipe.transformer,
      pipe.vae,
      undefined,
      undefined,
      undefined,
    ])
  })
})

describe('modelCpuOffloadContext', () => {
  const recording = (log: string[], failOn?: string) => ({
    enter: () => {
      log.push('enter')
      if (failOn === 'enter') throw new Error('no memory')
    },
    exit: () => log.push('exit'),
  })

  it('as an object or as a function that returns one is entered before and left after the call', async () => {
    for (const asFunction of [false, true]) {
      const log: string[] = []
      const context = recording(log)
      const pipe = withAttributes({ modelCpuOffloadContext: asFunction ? () => context : context })
      await new RequestScopedPipeline(pipe).generate({ look: () => log.push('call') })
      expect(log).toEqual(['enter', 'call', 'exit'])
    }
  })

  it('is left on errors too, the pipeline is called exactly once, and failing to enter is an error', async () => {
    const log: string[] = []
    const look = (): never => {
      log.push('call')
      throw new TypeError('a TypeError is no reason to call again')
    }
    const pipe = withAttributes({ modelCpuOffloadContext: recording(log) })
    await expect(new RequestScopedPipeline(pipe).generate({ look })).rejects.toThrow('no reason')
    expect(log).toEqual(['enter', 'call', 'exit'])
    const failing = withAttributes({ modelCpuOffloadContext: recording(log, 'enter') })
    await expect(new RequestScopedPipeline(failing).generate({ look })).rejects.toThrow('no memory')
    expect(log).toEqual(['enter', 'call', 'exit', 'enter'])
    const wrong = withAttributes({ modelCpuOffloadContext: 5 })
    await expect(new RequestScopedPipeline(wrong).generate()).rejects.toThrow(/modelCpuOffloadContext .* got Number/)
  })
})

describe('parameters', () => {
  it('go to the pipeline as they come, known or not, with nothing added', async () => {
    const received: unknown[][] = []
    class Recording {
      generate(...params: unknown[]): void {
        received.push(params)
      }
    }
    const scoped = new RequestScopedPipeline(new Recording())
    const params = { prompt: 'x', strange: [1] }
    await scoped.generate(params, 'second')
    await scoped.generate()
    expect(received).toEqual([[params, 'second'], []])
    expect(received[0]?.[0]).toBe(params)
  })
})
