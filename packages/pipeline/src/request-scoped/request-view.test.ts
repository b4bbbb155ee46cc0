import { describe, expect, it } from 'vitest'
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

describe('a pipeline whose state a copy cannot reach is refused', () => {
  it('where only its methods are private', () => {
    class Hidden {
      generate(): number {
        return this.#secret()
      }
      #secret(): number {
        return 1
      }
    }
    expect(() => new RequestScopedPipeline(new Hidden())).toThrow(/Hidden.*#private/)
  })

  it('where generate is an arrow or a bound function, tied to the base', () => {
    class Arrow {
      scheduler = new StepCounter()
      generate = async (): Promise<unknown> => this.scheduler
    }
    expect(() => new RequestScopedPipeline(new Arrow())).toThrow(/Arrow\.generate/)
    const bound = { scheduler: new StepCounter(), generate: Showing.prototype.generate.bind(new Showing()) }
    expect(() => new RequestScopedPipeline(bound)).toThrow(/generate/)
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
    const scoped = new RequestScopedPipeline(pipeline)
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
    await expect(new RequestScopedPipeline(pipeline).generate()).rejects.toThrow('notes')
    expect(kept).toBe(before)
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

  it('on a frozen pipeline, and with a frozen tokenizer', async () => {
    const tokenizer = Object.freeze({ vocabSize: 2, encode: async (text: string): Promise<number> => text.length })
    const pipeline = Object.freeze({
      scheduler: new StepCounter(),
      tokenizer,
      async generate(this: { tokenizer: typeof tokenizer; scheduler: unknown }): Promise<[number, unknown]> {
        return [await this.tokenizer.encode('four'), this.scheduler]
      },
    })
    const [length, scheduler] = await new RequestScopedPipeline(pipeline).generate()
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

it('work that a locked call leaves running takes its turn like any other', async () => {
  let running = 0
  let most = 0
  const tokenizer = {
    vocabSize: 1,
    async encode(leaveRunning?: () => unknown): Promise<void> {
      most = Math.max(most, ++running)
      leaveRunning?.()
      await new Promise(setImmediate)
      running--
    },
  }
  const pipeline = {
    tokenizer,
    async generate(this: { tokenizer: typeof tokenizer }): Promise<void> {
      let left: Promise<unknown> = Promise.resolve()
      const later = async (): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        await Promise.all([this.tokenizer.encode(), this.tokenizer.encode(), this.tokenizer.encode()])
      }
      await this.tokenizer.encode(() => (left = later()))
      await left
    },
  }
  await new RequestScopedPipeline(pipeline).generate()
  expect(most).toBe(1)
})
