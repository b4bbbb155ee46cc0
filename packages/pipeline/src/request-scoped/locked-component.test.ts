import { Mutex } from 'async-mutex'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { RequestScopedPipeline } from './request-scoped-pipeline.ts'

/** Counts how many of its calls run at once. */
class Turns {
  now = 0
  most = 0
  readonly take = async (): Promise<void> => {
    this.most = Math.max(this.most, ++this.now)
    await turn()
    this.now--
  }
}

type Callable = Record<string, (...args: unknown[]) => Promise<unknown>>

/** Holds components, which a test uses as it likes. */
class Pipeline {
  async generate(params: { use: (view: never) => unknown }): Promise<unknown> {
    return await params.use(this as never)
  }
}

const withComponents = <T extends object>(components: T): Pipeline & T => Object.assign(new Pipeline(), components)

/** A tokenizer, or something named as a VAE, with one method that takes turns. */
const withMethod = (method: string, turns: Turns): Callable =>
  Object.assign(Object.create({ encode: () => 0, [method]: turns.take }) as Callable, { vocabSize: 1 } as object)

/** Five requests at once, each calling the same thing twice. */
async function useAtOnce<P extends Pipeline>(scoped: RequestScopedPipeline<P>, use: (view: P) => Promise<unknown>): Promise<void> {
  const params = { use: (view: P) => Promise.all([use(view), use(view)]) } as unknown as Parameters<P['generate']>[0]
  await Promise.all(Array.from({ length: 5 }, () => scoped.generate(...([params] as unknown as Parameters<P['generate']>))))
}

describe('over all requests, one call at a time runs', () => {
  const tokenizing = ['encode', 'encodeBatch', 'decode', 'decodeBatch', 'tokenize'].map((method) => ['tokenizer', method] as const)
  const coding = ['encode', 'decode', 'forward'].flatMap((method) => [['vae', method] as const, ['vaeDecoder', method] as const])
  const imaging = ['preprocess', 'postprocess'].map((method) => ['imageProcessor', method] as const)

  it.each([...tokenizing, ...coding, ...imaging])('of %s.%s', async (name, method) => {
    const turns = new Turns()
    const component = name === 'tokenizer' ? withMethod(method, turns) : (Object.create({ [method]: turns.take }) as Callable)
    const scoped = new RequestScopedPipeline(withComponents<Record<string, Callable>>({ [name]: component }))
    await useAtOnce(scoped, async (view) => await view[name]?.[method]?.())
    expect([turns.most, turns.now]).toEqual([1, 0])
  })

  it('of a tokenizer that is itself a function', async () => {
    const turns = new Turns()
    const scoped = new RequestScopedPipeline(withComponents({ tokenizer: async (): Promise<void> => await turns.take() }))
    await useAtOnce(scoped, async (view) => await view.tokenizer())
    expect(turns.most).toBe(1)
  })

  it('of several tokenizers together', async () => {
    const turns = new Turns()
    const components = { tokenizer: withMethod('encode', turns), tokenizer2: withMethod('encode', turns) }
    await useAtOnce(new RequestScopedPipeline(withComponents(components)), async (view) => {
      await Promise.all([view.tokenizer['encode']?.(), view.tokenizer2['encode']?.()])
    })
    expect(turns.most).toBe(1)
  })

  it('of a component found only inside components', async () => {
    const turns = new Turns()
    const scoped = new RequestScopedPipeline(withComponents({ components: { vae: withMethod('decode', turns) } }))
    await useAtOnce(scoped, async (view) => await view.components.vae['decode']?.())
    expect(turns.most).toBe(1)
  })
})

describe('two wrappers', () => {
  it('around one pipeline share its lock by default', async () => {
    const turns = new Turns()
    const pipeline = withComponents({ tokenizer: withMethod('encode', turns), vae: withMethod('decode', turns) })
    const wrappers = [new RequestScopedPipeline(pipeline), new RequestScopedPipeline(pipeline)]
    await Promise.all(wrappers.map((scoped) => useAtOnce(scoped, async (view) => await view.tokenizer['encode']?.())))
    expect(turns.most).toBe(1)
    await Promise.all(wrappers.map((scoped) => useAtOnce(scoped, async (view) => await view.vae['decode']?.())))
    expect(turns.most).toBe(1)
  })

  it('around two pipelines do not wait for each other, unless they are given one mutex', async () => {
    const most = async (options: { tokenizerLock?: Mutex }): Promise<number> => {
      const turns = new Turns()
      const wrappers = [0, 1].map(() => new RequestScopedPipeline(withComponents({ tokenizer: withMethod('encode', turns) }), options))
      await Promise.all(wrappers.map((scoped) => useAtOnce(scoped, async (view) => await view.tokenizer['encode']?.())))
      return turns.most
    }
    expect(await most({})).toBe(2)
    expect(await most({ tokenizerLock: new Mutex() })).toBe(1)
  })
})

it('a call from inside a call under the same lock does not wait for itself', async () => {
  const turns = new Turns()
  class Vae {
    async decode(inner?: () => Promise<string>): Promise<string> {
      if (inner === undefined) return 'inner'
      await turns.take()
      return await inner()
    }
  }
  const scoped = new RequestScopedPipeline(withComponents({ vae: new Vae() }))
  const results: string[] = []
  await useAtOnce(scoped, async ({ vae }) => results.push(await vae.decode(async () => await vae.decode())))
  expect(results).toEqual(Array.from({ length: 10 }, () => 'inner'))
  expect(turns.most).toBe(1)
})

it('a call that throws at once releases the lock', async () => {
  const vae = {
    decode: (): never => {
      throw new Error('no memory')
    },
  }
  const scoped = new RequestScopedPipeline(withComponents({ vae }))
  const use = async (view: { vae: { decode(): unknown } }): Promise<void> => await expect(view.vae.decode()).rejects.toThrow('no memory')
  await useAtOnce(scoped, use)
})

it('work that a locked call leaves running takes its turn like any other work', async () => {
  const turns = new Turns()
  class Tokenizer {
    vocabSize = 1
    async encode(leaveRunning?: () => unknown): Promise<void> {
      leaveRunning?.()
      await turns.take()
    }
  }
  const scoped = new RequestScopedPipeline(withComponents({ tokenizer: new Tokenizer() }))
  await useAtOnce(scoped, async ({ tokenizer }) => {
    const ended = Promise.withResolvers<void>()
    let left: Promise<unknown> = Promise.resolve()
    const later = async (): Promise<void> => {
      await ended.promise
      await Promise.all([tokenizer.encode(), tokenizer.encode(), tokenizer.encode()])
    }
    await tokenizer.encode(() => (left = later()))
    ended.resolve()
    await left
  })
  expect(turns.most).toBe(1)
})
