import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { FlowMatchEulerDiscreteScheduler } from '../schedulers/flow-match-euler-discrete.ts'
import { retrieveTimesteps } from '../schedulers/retrieve-timesteps.ts'
import { BaseAsyncScheduler } from './base-async-scheduler.ts'
import { asyncRetrieveTimesteps } from './async-retrieve-timesteps.ts'

const flow = (): FlowMatchEulerDiscreteScheduler =>
  FlowMatchEulerDiscreteScheduler.fromConfig({ _class_name: 'FlowMatchEulerDiscreteScheduler', shift: 3 })

/** Takes only a number of steps, and no schedule of the caller's own. */
class StepsOnly {
  timesteps: number[] = []
  setTimesteps(steps: number | undefined): void {
    this.timesteps = Array.from({ length: steps ?? 0 }, (_, i) => i)
  }
  step(): void {}
}

class Secretive extends StepsOnly {
  #calls = 0
  count(): number {
    return ++this.#calls
  }
  clone(): Secretive {
    return new Secretive()
  }
}

describe('BaseAsyncScheduler', () => {
  it('passes reads, writes and tests with `in` through to the inner scheduler, and keeps names that it lacks to itself', () => {
    const inner = Object.assign(new StepsOnly(), { shift: 3 })
    const wrapper = new BaseAsyncScheduler(inner) as BaseAsyncScheduler<typeof inner> & typeof inner & { note?: string }
    wrapper.shift = 5
    wrapper.note = 'mine'
    expect([inner.shift, wrapper.shift, 'shift' in wrapper, 'nothing' in wrapper]).toEqual([5, 5, true, false])
    expect(['note' in inner, wrapper.note]).toEqual([false, 'mine'])
    wrapper.setTimesteps(3)
    expect(inner.timesteps).toEqual([0, 1, 2])
    expect(wrapper.scheduler).toBe(inner)
  })

  it('shows what it wraps in inspect and toString, and is never wrapped twice', () => {
    const wrapper = new BaseAsyncScheduler(new StepsOnly())
    expect(String(wrapper)).toBe('BaseAsyncScheduler wrapping StepsOnly')
    expect(inspect(wrapper)).toMatch(/^BaseAsyncScheduler\(StepsOnly/)
    expect(new BaseAsyncScheduler(wrapper).scheduler).toBe(wrapper.scheduler)
    expect(() => new BaseAsyncScheduler(null as unknown as StepsOnly)).toThrow(/Expected a scheduler, got null/)
  })

  it('calls methods that use #private members on the object that has them', () => {
    const wrapper = new BaseAsyncScheduler(new Secretive()) as BaseAsyncScheduler<Secretive> & Secretive
    expect([wrapper.count(), wrapper.count()]).toEqual([1, 2])
  })

  it('never bypasses a step of its own by computing guidance and step in one pass', () => {
    class Watching extends BaseAsyncScheduler<FlowMatchEulerDiscreteScheduler> {
      step(): void {}
    }
    const stepGuidedOf = (wrapper: BaseAsyncScheduler): string => typeof Reflect.get(wrapper, 'stepGuided')
    expect([stepGuidedOf(new BaseAsyncScheduler(flow())), stepGuidedOf(new Watching(flow()))]).toEqual(['function', 'undefined'])
    const spied = new BaseAsyncScheduler(flow())
    Object.defineProperty(spied, 'step', { value: () => undefined })
    expect(stepGuidedOf(spied)).toBe('undefined')
  })

  it('is left as it is by cloneForRequest, which configures the copy and keeps the subclass and its own state', () => {
    class Traced extends BaseAsyncScheduler<StepsOnly> {
      trace = ['made']
    }
    const wrapper = new Traced(new StepsOnly())
    wrapper.trace.push('used')
    const copy = wrapper.cloneForRequest(4)
    expect(copy).toBeInstanceOf(Traced)
    expect(copy.trace).toEqual(['made', 'used'])
    expect(copy.trace).not.toBe(wrapper.trace)
    expect(copy.scheduler).not.toBe(wrapper.scheduler)
    expect([copy.scheduler.timesteps.length, wrapper.scheduler.timesteps.length]).toEqual([4, 0])
  })

  it('gives each copy of a subclass its own functions, tied to that copy', () => {
    class Counting extends BaseAsyncScheduler<StepsOnly> {
      calls = 0
      count = (): number => ++this.calls
    }
    const wrapper = new Counting(new StepsOnly())
    wrapper.count()
    const copy = wrapper.cloneForRequest(4)
    expect([copy.count(), copy.count(), wrapper.calls]).toEqual([2, 3, 1])
  })

  it('asks a scheduler that offers cloneForRequest, and passes on what it refuses instead of copying it otherwise', () => {
    class Picky extends StepsOnly {
      cloneForRequest(steps?: number): Picky {
        if (steps === 13) throw new RangeError('Expected another number of steps, got 13')
        return new Picky()
      }
    }
    const wrapper = new BaseAsyncScheduler(new Picky())
    expect(wrapper.cloneForRequest(4).scheduler.timesteps).toHaveLength(4)
    expect(() => wrapper.cloneForRequest(13)).toThrow('Expected another number of steps, got 13')
    class Same extends StepsOnly {
      cloneForRequest(): this {
        return this
      }
    }
    expect(() => new BaseAsyncScheduler(new Same()).cloneForRequest(4)).toThrow(/Same to give another scheduler.*the same one/)
  })

  it('says what to add where a copy fails because it lacks a #private member', () => {
    class Private extends StepsOnly {
      #calls = 0
      override setTimesteps(steps: number | undefined): void {
        super.setTimesteps((steps ?? 0) + this.#calls)
      }
    }
    expect(() => new BaseAsyncScheduler(new Private()).cloneForRequest(4)).toThrow(
      /Private .*#private members.*cloneForRequest\(\).*#calls/,
    )
  })

  it('passes device, mu, sigmas and timesteps on to the copy', () => {
    const wrapper = new BaseAsyncScheduler(flow())
    expect(wrapper.cloneForRequest(undefined, { sigmas: [1, 0.5, 0.25] }).scheduler.timesteps).toHaveLength(3)
    expect(wrapper.cloneForRequest(undefined, { timesteps: [1000, 500] }).scheduler.timesteps).toHaveLength(2)
    expect(wrapper.cloneForRequest(6, { device: 'cpu', mu: 1 }).scheduler.timesteps).toHaveLength(6)
  })
})

describe('retrieveTimesteps', () => {
  it('configures the scheduler it is given and returns timesteps and their number', () => {
    const scheduler = flow()
    const [timesteps, steps] = retrieveTimesteps(scheduler, 5)
    expect(timesteps).toBe(scheduler.timesteps)
    expect([timesteps.length, steps]).toEqual([5, 5])
    expect(retrieveTimesteps(scheduler, undefined, { sigmas: [1, 0.5] })[1]).toBe(2)
    expect(retrieveTimesteps(scheduler, undefined, { timesteps: [900, 500, 100] })[1]).toBe(3)
  })

  it('refuses timesteps together with sigmas, and each that the scheduler does not declare', () => {
    expect(() => retrieveTimesteps(flow(), undefined, { sigmas: [1], timesteps: [1000] })).toThrow('Expected timesteps or sigmas, got both')
    for (const option of ['sigmas', 'timesteps'] as const) {
      const [bare, other] = [new StepsOnly(), option === 'sigmas' ? ('timesteps' as const) : ('sigmas' as const)]
      for (const scheduler of [bare, new BaseAsyncScheduler(bare) as BaseAsyncScheduler<StepsOnly> & StepsOnly]) {
        expect(() => retrieveTimesteps(scheduler, undefined, { [option]: [1] })).toThrow(new RegExp(`custom ${option}, got StepsOnly`))
      }
      const declared = Object.assign(new StepsOnly(), { accepts: [other] })
      expect(() => retrieveTimesteps(declared, undefined, { [option]: [1] })).toThrow(`whose \`accepts\` is ["${other}"]`)
      expect(bare.timesteps).toEqual([])
    }
  })

  it('hands other options to setTimesteps', () => {
    const seen: unknown[] = []
    class Curious extends StepsOnly {
      override setTimesteps(steps: number | undefined, options?: unknown): void {
        seen.push(options)
        super.setTimesteps(steps)
      }
    }
    retrieveTimesteps(new Curious(), 2, { mu: 1, flavour: 'x' })
    expect(seen).toEqual([{ mu: 1, flavour: 'x' }])
  })
})

describe('asyncRetrieveTimesteps', () => {
  it('without returnScheduler equals retrieveTimesteps', () => {
    const [one, other] = [flow(), flow()]
    expect(asyncRetrieveTimesteps(one, 4)).toEqual(retrieveTimesteps(other, 4))
    expect(one.timesteps).toHaveLength(4)
  })

  it('with returnScheduler leaves the scheduler untouched and returns a configured copy, wrapped where it was wrapped', () => {
    const bare = flow()
    const before = bare.timesteps.slice()
    const [timesteps, steps, copy] = asyncRetrieveTimesteps(bare, 7, { returnScheduler: true })
    expect([timesteps.length, steps, copy === bare]).toEqual([7, 7, false])
    expect(bare.timesteps).toEqual(before)
    const wrapper = new BaseAsyncScheduler(flow()) as BaseAsyncScheduler<FlowMatchEulerDiscreteScheduler> & FlowMatchEulerDiscreteScheduler
    const [, , wrapped] = asyncRetrieveTimesteps(wrapper, 3, { returnScheduler: true })
    expect(wrapped).toBeInstanceOf(BaseAsyncScheduler)
    expect(wrapped).not.toBe(wrapper)
  })

  it('with returnScheduler tells a scheduler that copies itself what the copy is for', () => {
    const asked: unknown[] = []
    class Asked extends StepsOnly {
      cloneForRequest(...request: unknown[]): Asked {
        asked.push(request)
        return new Asked()
      }
    }
    asyncRetrieveTimesteps(new Asked(), 5, { returnScheduler: true })
    expect(asked).toEqual([[5, {}]])
  })
})
