import { beforeEach, describe, expect, it } from 'vitest'
import { BaseAsyncScheduler } from './base-async-scheduler.ts'
import { RequestScopedPipeline } from './request-scoped-pipeline.ts'

class StepCounter {
  timesteps: number[] = []
  stepIndex = 0
  setTimesteps(steps: number | undefined): void {
    this.timesteps = Array.from({ length: steps ?? 0 }, (_, index) => index)
  }
  step(): number {
    return ++this.stepIndex
  }
}

/** Shows what a request sees. */
class Showing {
  [attribute: string]: unknown
  scheduler: unknown = new StepCounter()
  async generate(): Promise<this> {
    return this
  }
}

describe('a pipeline whose state a copy cannot separate is refused', () => {
  it('where only its methods are private', async () => {
    class Hidden {
      generate(): number {
        return this.#secret()
      }
      #secret(): number {
        return 1
      }
    }
    await expect(new RequestScopedPipeline(new Hidden()).generate()).rejects.toThrow(/Hidden .*#private.*cloneForRequest/)
  })

  it('where generate or a helper of it is an arrow or a bound function, tied to the base', async () => {
    class Arrow {
      scheduler = new StepCounter()
      generate = async (): Promise<unknown> => this.scheduler
    }
    expect(() => new RequestScopedPipeline(new Arrow())).toThrow(/Arrow\.generate/)
    const bound = { scheduler: new StepCounter(), generate: Showing.prototype.generate.bind(new Showing()) }
    expect(() => new RequestScopedPipeline(bound)).toThrow(/generate/)
    class ArrowHelper extends Showing {
      helper = (): unknown => this.scheduler
    }
    expect(() => new RequestScopedPipeline(new ArrowHelper())).toThrow(/ArrowHelper\.helper: .*cloneForRequest\(\).*sharedAttrs/)
    class BoundHelper extends Showing {
      constructor() {
        super()
        this['helper'] = this.generate.bind(this)
      }
    }
    expect(() => new RequestScopedPipeline(new BoundHelper())).toThrow(/BoundHelper\.helper/)
    const late = new Showing()
    const scoped = new RequestScopedPipeline(late)
    late['helper'] = (): unknown => late.scheduler
    await expect(scoped.generate()).rejects.toThrow(/Showing\.helper/)
  })

  it('where an object that stays shared holds the pipeline, its scheduler or a component that takes turns', async () => {
    class Holder {
      readonly held: unknown
      constructor(held: unknown) {
        this.held = held
      }
    }
    const holding = (hold: (pipeline: Showing) => unknown): Promise<unknown> => {
      const pipeline = Object.assign(new Showing(), { vae: { decode: () => 1 } })
      const scoped = new RequestScopedPipeline(Object.assign(pipeline, { helper: new Holder(hold(pipeline)) }))
      return scoped.generate()
    }
    await expect(holding((pipeline) => pipeline)).rejects.toThrow(/Showing\.helper .*the base's own at helper\.held:/)
    await expect(holding(({ scheduler }) => new Map([['parts', [new Holder(scheduler)]]]))).rejects.toThrow(
      /helper\.held\.get\(parts\)\.0\.held/,
    )
    await expect(holding(({ vae }) => new Set([{ vae }]))).rejects.toThrow(/helper\.held\.values\(\)\.vae/)
    await expect(holding(({ scheduler }) => new Map([[{ scheduler }, 1]]))).rejects.toThrow(/helper\.held\.keys\(\)\.scheduler/)
    await expect(holding(() => new Holder([1, 2]))).resolves.toBeInstanceOf(Showing)
  })

  it('where its scheduler lives in a closure, which is as it was afterwards', async () => {
    let kept: unknown = new StepCounter()
    const pipeline = {
      get scheduler(): unknown {
        return kept
      },
      set scheduler(value: unknown) {
        kept = value
      },
      generate: (): number => 1,
    }
    const scoped = new RequestScopedPipeline(pipeline, { sharedAttrs: ['generate'] })
    const before = kept
    await expect(scoped.generate()).rejects.toThrow('every view shares')
    expect(kept).toBe(before)
  })

  it('where another attribute lives in a closure', async () => {
    let kept: unknown = ['state']
    const pipeline = {
      get notes(): unknown {
        return kept
      },
      set notes(value: unknown) {
        kept = value
      },
      generate: (): number => 1,
    }
    const before = kept
    await expect(new RequestScopedPipeline(pipeline, { sharedAttrs: ['generate'] }).generate()).rejects.toThrow('notes')
    expect(kept).toBe(before)
  })

  it('where an instance that is listed as mutable gives itself as its clone', async () => {
    class Same {
      clone(): this {
        return this
      }
    }
    const pipeline = Object.assign(new Showing(), { history: new Same() })
    await expect(new RequestScopedPipeline(pipeline, { mutableAttrs: ['history'] }).generate()).rejects.toThrow(
      'Expected mutable attribute of class Same to offer clone(), got none that returns another object',
    )
  })

  it('where its scheduler has methods tied to the scheduler itself', async () => {
    class Tied extends StepCounter {
      advance = (): number => ++this.stepIndex
    }
    const pipeline = Object.assign(new Showing(), { scheduler: new Tied() })
    await expect(new RequestScopedPipeline(pipeline).generate()).rejects.toThrow(/Tied.*advance/)
  })

  it('where its cloneForRequest returns the pipeline itself', async () => {
    class Same extends Showing {
      cloneForRequest(): this {
        return this
      }
    }
    await expect(new RequestScopedPipeline(new Same()).generate()).rejects.toThrow(/Same\.cloneForRequest\(\).*the same object/)
  })
})

it('a class that offers cloneForRequest is asked for a view, and nothing else of it is read', async () => {
  class Offering extends Showing {
    offered: Offering[] = []
    helper = (): unknown => this.scheduler
    tokenizer = { vocabSize: 1, encode: (): number => 1 }
    get explosive(): never {
      throw new Error('nobody may read this')
    }
    cloneForRequest(): Offering {
      const view = new Offering()
      this.offered.push(view)
      return view
    }
  }
  const base = new Offering()
  const { scheduler } = base
  const scoped = new RequestScopedPipeline(base, { mutableAttrs: ['explosive'] })
  const views = [await scoped.generate(), await scoped.generate()]
  expect(views).toEqual(base.offered)
  expect(views[0]).not.toBe(views[1])
  expect(views.map((view) => [view.scheduler === base.scheduler, view.scheduler instanceof StepCounter])).toEqual([
    [false, true],
    [false, true],
  ])
  expect((views[0] as Offering).tokenizer.encode()).toBe(1)
  expect(base.scheduler).toBe(scheduler)
})

describe('what an accessor returns that no field of the pipeline holds', () => {
  let kept: string[]
  let told: string[]
  beforeEach(() => {
    kept = ['before']
    told = []
  })
  const accessors = {
    'its setter throws': {
      get: () => kept,
      set(): void {
        throw new Error('only for reading')
      },
    },
    'its setter keeps nothing': { get: () => kept, set(): void {} },
    'it is read-only': { get: () => kept },
  }
  class Noting extends Showing {
    override async generate(note?: unknown): Promise<this> {
      await Promise.resolve()
      ;(this['notes'] as unknown[]).push(note)
      return this
    }
  }
  const noting = (own: PropertyDescriptor): Noting => {
    const Own = class extends Noting {}
    Object.defineProperty(Own.prototype, 'notes', { ...own, configurable: true })
    return new Own()
  }

  it.each(Object.entries(accessors))('belongs to each request if %s, and the logger is told', async (_, own) => {
    const logger = { debug: (message: string) => told.push(message), warn: () => {} }
    const scoped = new RequestScopedPipeline(noting(own), { logger })
    const views = await Promise.all(['a', 'b', 'c'].map(async (note) => await scoped.generate(note)))
    expect(views.map((view) => view['notes'])).toEqual([
      ['before', 'a'],
      ['before', 'b'],
      ['before', 'c'],
    ])
    expect(kept).toEqual(['before'])
    expect(told).toHaveLength(3)
    expect(told[0]).toMatch(/^notes of a view is a copy .*(throws \(only for reading\)|keeps nothing|read-only)/)
  })

  it('becomes what the accessor returns, once that is something else', async () => {
    const view = await new RequestScopedPipeline(noting(accessors['it is read-only'])).generate('a')
    kept = ['another']
    expect(view['notes']).toBe(kept)
  })

  it('is shared where sharedAttrs names it, and is refused where a setter has set it for all requests before it throws', async () => {
    const shared = new RequestScopedPipeline(noting(accessors['it is read-only']), { sharedAttrs: ['notes'] })
    await shared.generate('a')
    expect(kept).toEqual(['before', 'a'])
    const before = kept
    const keeping = {
      get: () => kept,
      set(notes: string[]): void {
        kept = notes
        throw new Error('too late')
      },
    }
    await expect(new RequestScopedPipeline(noting(keeping)).generate('b')).rejects.toThrow(/whose state every view shares/)
    expect(kept).toBe(before)
  })
})

it('what sharedAttrs names stays the base’s own, whatever it is', async () => {
  const helper = (): number => 1
  const pipeline = Object.assign(new Showing(), { helper, history: [1], notes: [1] })
  class Holder {
    pipeline = pipeline
  }
  const holder = new Holder()
  Object.assign(pipeline, { holder })
  const view = await new RequestScopedPipeline(pipeline, { sharedAttrs: ['helper', 'history', 'holder'] }).generate()
  expect([view.helper === helper, view.history === pipeline.history, view['holder'] === holder]).toEqual([true, true, true])
  expect(view.notes).not.toBe(pipeline.notes)
})

it('each request has its own components where an instance of a class holds them: five steps and nine steps at once', async () => {
  class Components {
    readonly scheduler: StepCounter
    readonly more: Map<string, StepCounter>
    constructor(scheduler: StepCounter) {
      this.scheduler = scheduler
      this.more = new Map([['scheduler', scheduler]])
    }
    get main(): StepCounter {
      return this.scheduler
    }
  }
  class Stepping {
    scheduler = new StepCounter()
    components = new Components(this.scheduler)
    async generate({ steps }: { steps: number }): Promise<number[]> {
      const { scheduler, main, more } = this.components
      scheduler.setTimesteps(steps)
      await new Promise(setImmediate)
      return [scheduler.timesteps.length, main.timesteps.length, more.get('scheduler')?.timesteps.length ?? 0]
    }
  }
  const base = new Stepping()
  const { components } = base
  const scoped = new RequestScopedPipeline(base, { wrapScheduler: false })
  expect(await Promise.all([scoped.generate({ steps: 5 }), scoped.generate({ steps: 9 })])).toEqual([
    [5, 5, 5],
    [9, 9, 9],
  ])
  expect(base.components).toBe(components)
  expect(components.scheduler.timesteps).toEqual([])
})

it('an attribute that the class’s own clone() has separated is left as the clone has it', async () => {
  class Cloning extends Showing {
    latents = [1]
    clone(): Cloning {
      return Object.assign(new Cloning(), { latents: [7], history: this['history'] })
    }
  }
  const base = Object.assign(new Cloning(), { history: [1] })
  const view = await new RequestScopedPipeline(base).generate()
  expect(view.latents).toEqual([7])
  expect(view.history).not.toBe(base.history)
  expect(view.scheduler).toBeInstanceOf(BaseAsyncScheduler)
})

describe('a view has its own version wherever the base shows one', () => {
  it('in a field behind an accessor, in containers, and in a reference to the pipeline itself', async () => {
    class Backed {
      _kept: unknown = new StepCounter()
      parts: Record<string, unknown> = {}
      self: unknown = this
      get scheduler(): unknown {
        return this._kept
      }
      set scheduler(value: unknown) {
        this._kept = value
      }
      async generate(): Promise<this> {
        return this
      }
    }
    const pipeline = new Backed()
    pipeline.parts = { scheduler: pipeline._kept, owner: pipeline }
    const view = await new RequestScopedPipeline(pipeline).generate()
    expect(view.scheduler).toBeInstanceOf(BaseAsyncScheduler)
    expect(view.scheduler).not.toBe(pipeline.scheduler)
    expect(view._kept).toBe(view.scheduler)
    expect(view.parts).toEqual({ scheduler: view.scheduler, owner: view })
    expect(view.self).toBe(view)
    expect(pipeline.parts['owner']).toBe(pipeline)
  })

  it('in components, whether stored, computed or a Map, without a change to the base', async () => {
    for (const wrap of [(parts: object): unknown => parts, (parts: object): unknown => new Map(Object.entries(parts))]) {
      const pipeline = new Showing()
      const parts = wrap({ scheduler: pipeline.scheduler, weights: new StepCounter().timesteps })
      const stored = parts instanceof Map ? [...parts] : Object.entries(parts as object)
      const computed = Object.defineProperty(new Showing(), 'components', { get: () => parts, configurable: true })
      computed.scheduler = pipeline.scheduler
      for (const base of [Object.assign(pipeline, { components: parts }), computed]) {
        const view = await new RequestScopedPipeline(base).generate()
        const shown =
          view['components'] instanceof Map ? view['components'].get('scheduler') : Reflect.get(view['components'] as object, 'scheduler')
        expect(shown).toBe(view.scheduler)
        expect(base['components']).toBe(parts)
        expect(parts instanceof Map ? [...parts] : Object.entries(parts as object)).toEqual(stored)
      }
    }
  })

  it('for a second scheduler under another name', async () => {
    const pipeline = Object.assign(new Showing(), { priorScheduler: new StepCounter() })
    const view = await new RequestScopedPipeline(pipeline).generate()
    view.priorScheduler.step()
    expect(view.priorScheduler.stepIndex).toBe(1)
    expect(pipeline.priorScheduler.stepIndex).toBe(0)
  })

  it('on a frozen pipeline, whose view still takes what a request writes', async () => {
    class Writing extends Showing {
      steps = 0
      override async generate(): Promise<this> {
        this.steps = 5
        return this
      }
    }
    const pipeline = Object.freeze(new Writing())
    expect((await new RequestScopedPipeline(pipeline).generate()).steps).toBe(5)
    expect(pipeline.steps).toBe(0)
  })

  it('on a frozen pipeline, and with a frozen tokenizer', async () => {
    const tokenizer = Object.freeze({ vocabSize: 2, encode: async (text: string): Promise<number> => text.length })
    const pipeline = Object.freeze({
      scheduler: new StepCounter(),
      tokenizer,
      async generate(this: { tokenizer: typeof tokenizer; scheduler: unknown }): Promise<[number, unknown]> {
        return [await this.tokenizer.encode('four'), this.scheduler]
      },
    })
    const [length, scheduler] = await new RequestScopedPipeline(pipeline, { sharedAttrs: ['generate'] }).generate()
    expect(length).toBe(4)
    expect(scheduler).toBeInstanceOf(BaseAsyncScheduler)
    expect(pipeline.scheduler).toBeInstanceOf(StepCounter)
  })

  it('for bytes in a Buffer, whose own slice would share them', async () => {
    const pipeline = Object.assign(new Showing(), { bytes: Buffer.from([1, 2, 3]) })
    const view = await new RequestScopedPipeline(pipeline).generate()
    view.bytes[0] = 9
    expect(Buffer.isBuffer(view.bytes)).toBe(true)
    expect(pipeline.bytes[0]).toBe(1)
  })
})
