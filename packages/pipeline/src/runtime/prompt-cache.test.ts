import { describe, expect, it } from 'vitest'
import { Tensor } from '../tensor/tensor.ts'
import { PromptCache } from './prompt-cache.ts'
import type { CachedPrompt } from './prompt-cache.ts'

/** An entry takes 400 bytes and those of its key. */
const prompt = (): CachedPrompt => ({
  embeds: new Tensor(new Float32Array(90), [1, 9, 10]),
  pooled: new Tensor(new Float32Array(10), [1, 10]),
})
const encoders = [{}]

describe('the prompt cache', () => {
  it('encodes a prompt once, even for requests that come while it is being encoded', async () => {
    const cache = new PromptCache(10_000)
    let encoded = 0
    const encode = async () => {
      encoded++
      await new Promise((resolve) => setImmediate(resolve))
      return prompt()
    }
    const [first, second] = await Promise.all([cache.get('a', encoders, false, encode), cache.get('a', encoders, false, encode)])
    expect(second).toBe(first)
    expect(await cache.get('a', encoders, false, encode)).toBe(first)
    expect(encoded).toBe(1)
    expect(cache.stats).toEqual({ hits: 2, misses: 1, entries: 1, bytes: 402 })
  })

  it('lets a request go as soon as it aborts, and ends an encoding when no request waits for it any more', async () => {
    const cache = new PromptCache(10_000)
    /** Ends an encoding, for each that has begun. */
    const finish: (() => void)[] = []
    const encode = (signal: AbortSignal) =>
      new Promise<CachedPrompt>((resolve, reject) => {
        finish.push(() => resolve(prompt()))
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    const aborts = [new AbortController(), new AbortController()] as const
    const both = aborts.map(({ signal }) => cache.get('a', encoders, false, encode, signal))
    aborts[0].abort(new Error('first'))
    await expect(both[0]).rejects.toThrow('first')
    const third = cache.get('a', encoders, false, encode)
    aborts[1].abort(new Error('second'))
    await expect(both[1]).rejects.toThrow('second')
    // Another request still waits.
    expect(finish).toHaveLength(1)
    finish[0]?.()
    expect((await third).pooled.numel).toBe(10)

    const alone = new AbortController()
    const left = cache.get('b', encoders, false, encode, alone.signal)
    alone.abort(new Error('gone'))
    // A request that comes at the same moment gets an encoding of its own.
    const next = cache.get('b', encoders, false, encode)
    await expect(left).rejects.toThrow('gone')
    expect(finish).toHaveLength(3)
    finish[2]?.()
    expect((await next).pooled.numel).toBe(10)
    await expect(cache.get('b', encoders, false, encode, alone.signal)).rejects.toThrow('gone')
  })

  it('drops the least recently used entries beyond its bytes, but never those that are pinned', async () => {
    const cache = new PromptCache(1000)
    const get = (key: string, pin = false) => cache.get(key, encoders, pin, async () => prompt())
    await get('', true)
    await get('a')
    await get('b')
    await get('a')
    await get('c')
    expect(cache.stats).toMatchObject({ entries: 3, bytes: 400 + 2 * 402 })
    const { misses } = cache.stats
    await get('')
    await get('a')
    await get('c')
    expect(cache.stats.misses).toBe(misses)
    await get('b')
    expect(cache.stats.misses).toBe(misses + 1)
    cache.clear()
    await get('', true)
    expect(cache.stats).toMatchObject({ entries: 1, misses: misses + 1 })
  })

  it('keeps only what is pinned when it has no bytes', async () => {
    const cache = new PromptCache(0)
    await cache.get('a', encoders, false, async () => prompt())
    await cache.get('', encoders, true, async () => prompt())
    expect(cache.stats).toMatchObject({ entries: 1 })
    expect(() => new PromptCache(-1)).toThrow('Expected promptCacheBytes to be an integer from 0 up, got -1')
  })

  it('forgets everything when the encoders change', async () => {
    const cache = new PromptCache(10_000)
    await cache.get('', encoders, true, async () => prompt())
    await cache.get('', [{}], true, async () => prompt())
    expect(cache.stats).toMatchObject({ misses: 2, entries: 1 })
  })

  it('gives nothing that former encoders made, pinned or not, finished or still being encoded', async () => {
    const cache = new PromptCache(10_000)
    const made: string[] = []
    const get = (key: string, pin: boolean, by: readonly unknown[], name: string): Promise<CachedPrompt> =>
      cache.get(key, by, pin, async () => {
        made.push(`${key} by ${name}`)
        return prompt()
      })
    await get('', true, encoders, 'former')
    await get('a', false, encoders, 'former')
    const unfinished = get('b', false, encoders, 'former')
    const others = [{}]
    const again = [get('', true, others, 'others'), get('a', false, others, 'others'), get('b', false, others, 'others')]
    expect(await Promise.all(again)).not.toContain(await unfinished)
    expect(made.toSorted()).toEqual([' by former', ' by others', 'a by former', 'a by others', 'b by former', 'b by others'])
    expect(await get('b', false, others, 'others')).toBe(await again[2])
  })

  it('does not keep a failure: the next request tries again', async () => {
    const cache = new PromptCache(10_000)
    const failing = async (): Promise<CachedPrompt> => {
      throw new Error('no memory')
    }
    await expect(cache.get('a', encoders, false, failing)).rejects.toThrow('no memory')
    expect(await cache.get('a', encoders, false, async () => prompt())).toBeDefined()
  })
})
