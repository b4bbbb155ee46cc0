/** The runtime on the real model: what requests share, what they need, and what its statistics say. */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import type { GenerateParams } from '../src/sd3/generate-params.ts'
import { StableDiffusion3Pipeline } from '../src/sd3/pipeline.ts'
import { RequestScopedPipeline } from '../src/request-scoped/request-scoped-pipeline.ts'
import { deviceQueue } from '../src/runtime/device-queue.ts'
import type { BatchingOptions } from '../src/runtime/runtime.ts'
import { OutOfMemoryError } from '../src/runtime/out-of-memory.ts'
import type { StepRecord } from '../src/runtime/step-batcher.ts'
import { startTogether } from './start-together.ts'

const model = fileURLToPath(new URL('../../../models/tiny-scenes', import.meta.url))
const boat: GenerateParams = { prompt: 'a red boat', seed: 1, width: 32, height: 32, numInferenceSteps: 3 }

let open: StableDiffusion3Pipeline[] = []
afterEach(async () => {
  await Promise.all(open.map((pipe) => pipe.close()))
  open = []
})
async function load(batching: BatchingOptions = {}) {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', weights: 'packed', batching })
  open.push(pipe)
  return { pipe, scoped: new RequestScopedPipeline(pipe) }
}

describe('a prompt', () => {
  it('is encoded once for all requests, and the empty negative prompt is kept whatever the cache holds', async () => {
    const { pipe, scoped } = await load({ promptCacheBytes: 0 })
    const first = await scoped.generate(boat)
    expect(pipe.engineStats().promptCache).toMatchObject({ hits: 0, misses: 2, entries: 1 })
    await scoped.generate({ ...boat, prompt: 'a star' })
    expect(pipe.engineStats().promptCache).toMatchObject({ hits: 1, misses: 3 })
    expect((await scoped.generate(boat)).images).toEqual(first.images)

    const caching = await load()
    const many = await Promise.all(Array.from({ length: 5 }, () => caching.scoped.generate(boat)))
    expect(caching.pipe.engineStats().promptCache).toMatchObject({ hits: 8, misses: 2, entries: 2 })
    for (const { images } of many) expect(images).toEqual(first.images)
  })

  it('is encoded again with other settings', async () => {
    const { pipe, scoped } = await load()
    await scoped.generate(boat)
    const { misses } = pipe.engineStats().promptCache
    await scoped.generate({ ...boat, clipSkip: 1 })
    await scoped.generate({ ...boat, maxSequenceLength: 12 })
    await scoped.generate({ ...boat, prompt3: 'a cat' })
    // Another length also asks for another negative prompt.
    expect(pipe.engineStats().promptCache.misses - misses).toBe(4)
  })
})

describe('the statistics of the engine', () => {
  it('count every step and row, report each step, and end with nothing waiting', async () => {
    const seen: StepRecord[] = []
    const { pipe, scoped } = await load({ onStep: (step) => seen.push(step) })
    await Promise.all([scoped.generate(boat), scoped.generate({ ...boat, guidanceScale: 1 }), scoped.generate({ ...boat, seed: 2 })])
    const stats = pipe.engineStats()
    expect(stats.rows).toBe(3 * (2 + 1 + 2))
    expect(stats.steps).toBe(seen.length)
    expect(seen.reduce((sum, { rows }) => sum + rows, 0)).toBe(stats.rows)
    expect(stats.lastStep).toBe(seen.at(-1))
    expect(seen.every(({ size, durationMs, runMs, waitMs }) => size === '4x4+40' && durationMs >= runMs && runMs > 0 && waitMs >= 0)).toBe(
      true,
    )
    expect(stats).toMatchObject({ waitingCalls: 0, waitingRows: 0, memory: { admitted: 0, waiting: 0, limitBytes: undefined } })
    expect(stats.memory.estimatedBytes).toBeGreaterThan(2 ** 20)
    expect(Math.min(stats.encodeMs, stats.decodeMs, stats.batchingGain)).toBeGreaterThan(0)
    expect(structuredClone(stats)).toEqual(stats)
  })

  it('include step times, which outlive the process in cacheDir', async () => {
    const cacheDir = await mkdtemp(join(tmpdir(), 'easel-cache-'))
    const first = await load({ cacheDir })
    await first.scoped.generate({ ...boat, numInferenceSteps: 6 })
    const { stepTimes } = first.pipe.engineStats()
    expect(Object.keys(stepTimes)).toEqual(['4x4+40'])
    await first.pipe.close()
    const file = (await readdir(cacheDir)).find((name) => name.endsWith('.json'))
    expect(JSON.parse(await readFile(join(cacheDir, file as string), 'utf8'))).toEqual({ version: 1, stepMs: stepTimes })
    // The weights did not have to be read for that.
    expect(first.pipe.life.hash).toBeUndefined()
    const next = await load({ cacheDir })
    expect(next.pipe.engineStats().stepTimes).toEqual(stepTimes)
    await next.pipe.close()
    await rm(cacheDir, { recursive: true })
  })
})

describe('memory', () => {
  it('over the limit makes requests run one after another, with the same pictures, and a canceled one stops waiting', async () => {
    const expected = (await (await load()).scoped.generate(boat)).images
    const { pipe, scoped } = await load({ memoryLimitBytes: 1 })
    let most = 0
    const callbackOnStepEnd = (): undefined => void (most = Math.max(most, pipe.engineStats().memory.admitted))
    const abort = new AbortController()
    const results = [1, 2, 3].map(() => scoped.generate({ ...boat, callbackOnStepEnd }))
    const canceled = scoped.generate({ ...boat, signal: abort.signal })
    await Promise.resolve()
    abort.abort(new Error('not wanted'))
    await expect(canceled).rejects.toThrow('not wanted')
    for (const { images } of await Promise.all(results)) expect(images).toEqual(expected)
    expect(most).toBe(1)
    expect(pipe.engineStats().memory).toMatchObject({ admitted: 0, waiting: 0, limitBytes: 1 })
  })

  it('lets many requests in at once where there is room', async () => {
    // So much room that no estimate comes near it, whatever the process has grown by in a run.
    const { pipe, scoped } = await load({ memoryLimitBytes: 2 ** 50 })
    const { memory, batcher } = pipe.runtime
    // How many are let in depends on the largest step so far, so that must not depend on what shared steps gain on this machine.
    batcher.profile.rowsFor = (_, waiting) => waiting
    let most = 0
    const callbackOnStepEnd = (): undefined => void (most = Math.max(most, memory.stats.admitted))
    const { promise: free, resolve: release } = Promise.withResolvers<void>()
    const holding = deviceQueue.run('decode', () => free)
    const all = Array.from({ length: 16 }, () => scoped.generate({ ...boat, numInferenceSteps: 8, callbackOnStepEnd }))
    // The first is let in at once; the device is held until all others wait.
    await expect.poll(() => memory.stats.waiting).toBe(15)
    release()
    await Promise.all([holding, ...all])
    expect(most).toBeGreaterThan(8)
  })

  it('that a failed request held is given back', async () => {
    const { pipe, scoped } = await load()
    const failing = scoped.generate({
      ...boat,
      callbackOnStepEnd: () => {
        throw new Error('enough')
      },
    })
    await expect(failing).rejects.toThrow('enough')
    expect(pipe.engineStats().memory.admitted).toBe(0)
  })

  it('that runs out while a picture is decoded is freed for a second try; after that the request fails with out_of_memory and the next one runs', async () => {
    const { pipe, scoped } = await load()
    const expected = (await scoped.generate(boat)).images
    const decode = pipe.vae.decode.bind(pipe.vae)
    let failures = 1
    // ONNX Runtime's own message; a real shortage would end the process of this test too.
    pipe.vae.decode = (latents) =>
      failures-- > 0
        ? Promise.reject(new Error('run', { cause: new Error('Failed to allocate memory for requested buffer') }))
        : decode(latents)
    expect((await scoped.generate(boat)).images).toEqual(expected)
    failures = 2
    const failing = scoped.generate(boat)
    await expect(failing).rejects.toBeInstanceOf(OutOfMemoryError)
    await expect(failing).rejects.toMatchObject({ code: 'out_of_memory' })
    expect((await scoped.generate(boat)).images).toEqual(expected)
  })
})

describe('a finished picture', () => {
  it('is decoded after one more step of the others at most, and the others go on between two pictures', async () => {
    const trace: string[] = []
    const { pipe, scoped } = await load({ onStep: () => trace.push('step') })
    const { runtime } = pipe
    const decode = runtime.decode.bind(runtime)
    runtime.decode = async (...args) => {
      trace.push('asked')
      const image = await decode(...args)
      trace.push('decoded')
      return image
    }
    // The rows of both requests share their steps, so the long one still has most of its own to do when the pictures are decoded.
    runtime.batcher.profile.rowsFor = (_, waiting) => waiting
    const calls = [
      () => scoped.generate({ ...boat, numInferenceSteps: 40, outputType: 'latent' }),
      () => scoped.generate({ ...boat, numInferenceSteps: 2, numImagesPerPrompt: 3 }),
    ]
    // Encodes the prompt.
    await scoped.generate({ ...boat, outputType: 'latent' })
    const [long, short] = await startTogether(runtime.batcher, calls)
    await short
    const decodings = trace.slice(trace.indexOf('asked'), trace.lastIndexOf('decoded') + 1)
    await long
    expect(decodings.filter((event) => event === 'decoded')).toHaveLength(3)
    for (let at = decodings.indexOf('asked'); at !== -1; at = decodings.indexOf('asked', at + 1)) {
      const until = decodings.indexOf('decoded', at)
      expect(until - at).toBeLessThanOrEqual(2)
    }
    expect(decodings.filter((event) => event === 'step').length).toBeGreaterThanOrEqual(2)
  })
})

describe('a canceled request', () => {
  it('that waits for the encoding of its prompt rejects at once, and its prompt is not encoded', async () => {
    const { pipe, scoped } = await load()
    await scoped.generate(boat)
    let encodings = 0
    const encoder = pipe.textEncoder as NonNullable<typeof pipe.textEncoder>
    const run = encoder.session.runNative.bind(encoder.session)
    const abort = new AbortController()
    const { promise: allRejected, resolve: release } = Promise.withResolvers<void>()
    encoder.session.runNative = async (...args) => {
      encodings++
      abort.abort(new Error('not wanted'))
      // The first encoding does not end before all requests have left.
      await allRejected
      return await run(...args)
    }
    const requests = Array.from({ length: 10 }, (_, n) => scoped.generate({ ...boat, prompt: `number ${n}`, signal: abort.signal }))
    expect((await Promise.allSettled(requests)).filter(({ status }) => status === 'fulfilled')).toEqual([])
    release()
    expect((await scoped.generate(boat)).images).toHaveLength(1)
    expect(encodings).toBe(1)
    expect((await scoped.generate({ ...boat, prompt: 'number 3' })).images).toHaveLength(1)
  })

  it('whose picture waits behind others for its decoding rejects at once, and its picture is not decoded', async () => {
    const { pipe, scoped } = await load()
    const { decoder } = pipe.vae
    const run = decoder.runNative.bind(decoder)
    const abort = new AbortController()
    let decodings = 0
    decoder.runNative = async (...args) => {
      decodings++
      abort.abort(new Error('not wanted'))
      return await run(...args)
    }
    pipe.runtime.batcher.profile.rowsFor = (_, waiting) => waiting
    await scoped.generate({ ...boat, outputType: 'latent' })
    const others = [2, 3, 4].map((seed) => () => scoped.generate({ ...boat, seed, signal: abort.signal }))
    const started = await startTogether(pipe.runtime.batcher, [() => scoped.generate(boat), ...others])
    const [first, ...settled] = await Promise.allSettled(started)
    expect(settled.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(first?.status).toBe('fulfilled')
    expect(decodings).toBe(1)
  })
})
