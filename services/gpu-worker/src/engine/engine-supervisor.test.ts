import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { engineParams as params } from '../../test/engine-params.ts'
import { decodeCheckpoint, encodeCheckpoint } from '../jobs/checkpoint.ts'
import { startEngine } from './engine-supervisor.ts'
import type { EngineEvent, EngineSupervisor } from './engine-supervisor.ts'
import type { Checkpoint, EngineParams } from './protocol.ts'

const modelsDir = fileURLToPath(new URL('../../../../models', import.meta.url))
const settings = { model: 'tiny-scenes', modelsDir, device: 'cpu', stepTimeoutMs: 60_000 }
/** A call of half a minute, for things that must happen before its end on any machine. */
const long: EngineParams = { ...params, numInferenceSteps: 200, width: 256, height: 256, numImagesPerPrompt: 2 }

/** Stops a call at a step and returns the checkpoint. Begins again if this process was held up until the call was over. */
async function interrupt(engine: EngineSupervisor, call: EngineParams, atStep: number): Promise<Checkpoint> {
  for (;;) {
    const stop = new AbortController()
    let checkpoint: Promise<Checkpoint | undefined> | undefined
    const onProgress = (step: number): void => {
      if (step !== atStep) return
      checkpoint = engine.checkpoint('interrupted')
      stop.abort()
    }
    const ended: unknown = await engine.generate('interrupted', call, { signal: stop.signal, onProgress }).catch((error: unknown) => error)
    const stopped = await checkpoint
    if (!(ended instanceof Error) || stopped === undefined || stopped.step === call.numInferenceSteps) continue
    expect(ended).toMatchObject({ name: 'EngineError', code: 'canceled' })
    return stopped
  }
}

describe('an engine', () => {
  let engine: EngineSupervisor
  let events: EngineEvent[]
  beforeEach(async () => {
    events = []
    // On a slow machine the hash of the model comes after it is ready.
    engine = await startEngine({ ...settings, onEvent: (event) => event.type === 'hashed' || events.push(event) })
  })
  afterEach(async () => engine?.close())

  test('reports every step of a call and returns its picture', async () => {
    const steps: number[] = []
    const { images, timings } = await engine.generate('a', params, { onProgress: (step) => steps.push(step) })
    expect(steps).toEqual([1, 2, 3, 4, 5, 6])
    expect(images).toMatchObject([{ index: 0, width: 64, height: 64 }])
    expect(images[0]?.rgb).toHaveLength(64 * 64 * 3)
    expect(timings.denoiseMs).toBeGreaterThan(0)
    const stats = await engine.stats()
    expect(stats).toMatchObject({ active: 0 })
    expect(stats.stepMs).toBeGreaterThan(0)
    expect(stats.pictureMs).toBeGreaterThan(0)
    // Six steps, each with and without the prompt; the batcher decides how many rows share a run.
    expect(stats.pipeline).toMatchObject({ rows: 12, waitingRows: 0 })
  })

  test('continues from a checkpoint to the pixels of the whole run', async () => {
    const call = { ...params, numInferenceSteps: 60, numImagesPerPrompt: 2 }
    const whole = await engine.generate('whole', call)
    const resume = await interrupt(engine, call, 2)
    expect(resume.step).toBeGreaterThanOrEqual(2)
    expect(resume.latents.dims).toEqual([2, 16, 8, 8])
    const steps: number[] = []
    const rest = await engine.generate('rest', call, { resume, onProgress: (step) => steps.push(step) })
    expect(steps[0]).toBe(resume.step + 1)
    expect(rest.images.map(({ rgb }) => Buffer.from(rgb))).toEqual(whole.images.map(({ rgb }) => Buffer.from(rgb)))
  })

  test('rejects every call that was in it when it died, as one of several, and serves again', async () => {
    const begun = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const calls = begun.map(({ resolve }, n) =>
      engine.generate(`${n}`, long, { onProgress: () => resolve() }).catch((error: unknown) => error),
    )
    await Promise.all(begun.map(({ promise }) => promise))
    process.kill(engine.pid as number, 'SIGKILL')
    for (const error of await Promise.all(calls)) expect(error).toMatchObject({ code: 'engine_crashed', alone: false })
    expect((await engine.generate('c', params)).images).toHaveLength(1)
    expect(engine.restarts).toBe(1)
    expect(events.map(({ type }) => type)).toEqual(['ready', 'died', 'ready'])
  })

  test('rejects running and waiting calls with closed when it is closed', async () => {
    const begun = Promise.withResolvers<void>()
    const running = engine.generate('a', long, { onProgress: () => begun.resolve() })
    const calls = [running, engine.generate('b', long, { exclusive: true })].map((call) => call.catch((error: unknown) => error))
    await begun.promise
    await engine.close()
    for (const error of await Promise.all(calls)) expect(error).toMatchObject({ name: 'EngineError', code: 'closed' })
    await expect(engine.generate('c', params)).rejects.toMatchObject({ code: 'closed' })
    expect(engine.pid).toBeUndefined()
  })

  test('refuses a call with an invalid seed, and the calls beside it continue in the same process', async () => {
    const { pid } = engine
    const begun = Promise.withResolvers<void>()
    const beside = engine.generate('beside', { ...params, numInferenceSteps: 60 }, { onProgress: () => begun.resolve() })
    await begun.promise
    for (const seed of [0.5, Number.NaN])
      await expect(engine.generate(`bad ${seed}`, { ...params, seed })).rejects.toMatchObject({ code: 'internal' })
    expect((await beside).images).toHaveLength(1)
    expect(engine.pid).toBe(pid)
  })

  test('refuses the id of a call that is in it, and that call continues', async () => {
    const call = engine.generate('a', params)
    await expect(engine.generate('a', params)).rejects.toMatchObject({ name: 'EngineError', code: 'internal' })
    expect((await call).images).toHaveLength(1)
  })

  test('refuses a call that the model cannot run, and continues', async () => {
    await expect(engine.generate('a', { ...params, width: 60 })).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('width') as string,
    })
    expect((await engine.generate('b', params)).images).toHaveLength(1)
  })
})

describe('an engine past its memory limit', () => {
  let engine: EngineSupervisor
  let events: string[]
  beforeEach(async () => {
    events = []
    engine = await startEngine({
      ...settings,
      entry: fileURLToPath(new URL('../../test/memory-engine.ts', import.meta.url)),
      memoryLimitBytes: 700 * 2 ** 20,
      onEvent: ({ type }) => type === 'hashed' || events.push(type),
    })
  })
  afterEach(async () => engine?.close())
  const leak = { ...params, prompt: 'a leak' }

  test('is replaced even when the call that took the memory was canceled', async () => {
    const stop = new AbortController()
    const call = engine.generate('a', { ...long, prompt: leak.prompt }, { signal: stop.signal, onProgress: () => stop.abort() })
    await expect(call).rejects.toMatchObject({ code: 'canceled' })
    expect((await engine.generate('b', params)).images).toHaveLength(1)
    expect(events).toEqual(['ready', 'recycled', 'ready'])
  })

  test('is not replaced when its successor needs as much', async () => {
    for (const [id, call] of [leak, leak, params, params].entries()) await engine.generate(`${id}`, call)
    expect(events).toEqual(['ready', 'recycled', 'ready', 'limit_too_low'])
    expect(engine.recycles).toBe(1)
  })
})

describe('an engine whose scheduler draws noise at every step', () => {
  let folder: string
  beforeEach(async () => {
    folder = join(await mkdtemp(join(tmpdir(), 'easel-stochastic-')), 'model')
    await cp(join(modelsDir, 'tiny-scenes'), folder, { recursive: true })
    const path = join(folder, 'scheduler', 'scheduler_config.json')
    const config = JSON.parse(await readFile(path, 'utf8')) as object
    await writeFile(path, JSON.stringify({ ...config, stochastic_sampling: true }))
  })
  afterEach(async () => rm(join(folder, '..'), { recursive: true }))

  test('continues from a checkpoint with the noise that would have come next', async () => {
    const engine = await startEngine({ ...settings, model: folder })
    try {
      const two = { ...params, numInferenceSteps: 60, numImagesPerPrompt: 2 }
      const whole = await engine.generate('whole', two)
      const resume = decodeCheckpoint(encodeCheckpoint(await interrupt(engine, two, 3)))
      expect(resume?.generatorState).toHaveLength(2)
      const rest = await engine.generate('rest', two, { resume })
      expect(rest.images.map(({ rgb }) => Buffer.from(rgb))).toEqual(whole.images.map(({ rgb }) => Buffer.from(rgb)))
    } finally {
      await engine.close()
    }
  })
})

describe('starting an engine', () => {
  test('rejects with the reason when there is no such model', async () => {
    await expect(startEngine({ ...settings, model: 'no-such-model' })).rejects.toMatchObject({
      code: 'load_failed',
      message: expect.stringContaining('no-such-model') as string,
    })
  })
})

test('a call that is canceled while a new process loads the model ends immediately', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'easel-cache-'))
  const open = join(cacheDir, 'open')
  await writeFile(open, '')
  const events: string[] = []
  const entry = fileURLToPath(new URL('../../test/gated-engine.ts', import.meta.url))
  const engine = await startEngine({ ...settings, entry, cacheDir, onEvent: ({ type }) => events.push(type) })
  try {
    await rm(open)
    process.kill(engine.pid as number, 'SIGKILL')
    await expect.poll(() => events).toContain('died')
    for (const newerThan of [undefined, 2]) {
      const stop = new AbortController()
      const call = engine.generate('a', params, { signal: stop.signal, newerThan })
      setImmediate(() => stop.abort())
      await expect(call).rejects.toMatchObject({ code: 'canceled' })
    }
    expect(engine.hasModel).toBe(false)
    await writeFile(open, '')
    expect((await engine.generate('c', params)).images).toHaveLength(1)
  } finally {
    await engine.close()
    await rm(cacheDir, { recursive: true })
  }
})

test('an engine whose model is gone tries again after pauses that grow, and serves when the model is back', async () => {
  const folder = join(await mkdtemp(join(tmpdir(), 'easel-gone-')), 'model')
  await cp(join(modelsDir, 'tiny-scenes'), folder, { recursive: true })
  const pauses: number[] = []
  const onEvent = (event: EngineEvent): void => void (event.type === 'load_failed' && pauses.push(event.retryInMs))
  const engine = await startEngine({ ...settings, model: folder, onEvent })
  try {
    await rename(folder, `${folder}-away`)
    process.kill(engine.pid as number, 'SIGKILL')
    await expect.poll(() => pauses.length, { timeout: 60_000 }).toBeGreaterThanOrEqual(2)
    expect(pauses.slice(0, 2)).toEqual([100, 200])
    await rename(`${folder}-away`, folder)
    expect((await engine.generate('a', params)).images).toHaveLength(1)
    expect(engine.restarts).toBeGreaterThanOrEqual(3)
  } finally {
    await engine.close()
    await rm(join(folder, '..'), { recursive: true })
  }
})

test('an engine that is closed while its next process becomes ready ends', async () => {
  const entry = fileURLToPath(new URL('../../test/late-engine.ts', import.meta.url))
  const events: string[] = []
  const cacheDir = await mkdtemp(join(tmpdir(), 'easel-cache-'))
  const engine = await startEngine({ ...settings, entry, cacheDir, onEvent: ({ type }) => events.push(type) })
  const first = engine.pid
  await expect(engine.generate('a', params)).rejects.toMatchObject({ code: 'engine_crashed' })
  await expect.poll(() => engine.pid !== undefined && engine.pid !== first).toBe(true)
  await engine.close()
  expect(events).toEqual(['ready', 'died', 'ended'])
  await rm(cacheDir, { recursive: true })
})

test('an engine whose model is overwritten loads it again, and reports the hash of what it draws with', async () => {
  const folder = join(await mkdtemp(join(tmpdir(), 'easel-models-')), 'scenes')
  await cp(join(modelsDir, 'tiny-scenes'), folder, { recursive: true })
  const messages: string[] = []
  const onEvent = (event: EngineEvent): void => void (event.type === 'load_failed' && messages.push(event.message))
  const engine = await startEngine({ ...settings, model: folder, onEvent })
  try {
    const before = await engine.generate('a', params)
    const hash = await engine.contentHash()
    const file = join(folder, 'vae', 'diffusion_pytorch_model.safetensors')
    const bytes = await readFile(file)
    // The decoder's weights come first.
    const start = 8 + Number(bytes.readBigUInt64LE())
    for (let at = start; at < start + 20_000; at += 2) bytes.writeUInt16LE(bytes.readUInt16LE(at) ^ 0x80, at)
    await writeFile(file, bytes)
    await expect(engine.generate('b', params)).rejects.toMatchObject({ code: 'engine_crashed' })
    const after = await engine.generate('c', params)
    expect(after.images[0]?.rgb).not.toEqual(before.images[0]?.rgb)
    expect(await engine.contentHash()).not.toBe(hash)
    expect(messages).toEqual([expect.stringContaining(`Expected ${file} to stay as it was when the model was loaded`)])
  } finally {
    await engine.close()
    await rm(join(folder, '..'), { recursive: true })
  }
})

test('an engine that is told to stop saves what it has learnt', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'easel-cache-'))
  const engine = await startEngine({ ...settings, cacheDir })
  try {
    await engine.generate('a', { ...params, numInferenceSteps: 20 })
    await expect.poll(() => readdir(cacheDir)).toContainEqual(expect.stringMatching(/^model-hash-/))
    // The file of the step times is opened once the hash is known.
    await engine.generate('b', params)
    await engine.close()
    expect(await readdir(cacheDir)).toContainEqual(expect.stringMatching(/^step-times-/))
  } finally {
    await engine.close()
    await rm(cacheDir, { recursive: true })
  }
})

test('an engine that needs longer for the texts than a run may take is not considered hung', async () => {
  const entry = fileURLToPath(new URL('../../test/slow-texts-engine.ts', import.meta.url))
  const events: EngineEvent[] = []
  const engine = await startEngine({
    ...settings,
    entry,
    stepTimeoutMs: 5000,
    onEvent: (event) => event.type === 'hashed' || events.push(event),
  })
  try {
    expect((await engine.generate('a', { ...params, numInferenceSteps: 1 })).images).toHaveLength(1)
    expect(events.map(({ type }) => type)).toEqual(['ready'])
  } finally {
    await engine.close()
  }
})
