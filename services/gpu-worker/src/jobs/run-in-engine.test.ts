/** What happens when a run is interrupted, with an engine that does what each test says and a real record in Redis. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import pino from 'pino'
import { createJobStore, createRedis } from '@easel/job-store'
import type { JobRecord, JobStore, RedisConnection } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import type { RedisServer } from '@easel/job-store/test/redis-server'
import { encodeCheckpoint } from './checkpoint.ts'
import { EngineError } from '../engine/engine.ts'
import type { Engine, EngineCallOptions, EngineResult } from '../engine/engine.ts'
import type { Checkpoint } from '../engine/protocol.ts'
import { createProgressReporter } from './progress-reporter.ts'
import { runInEngine } from './run-in-engine.ts'

const result: EngineResult = {
  images: [],
  loras: [],
  timings: { encodeMs: 1, denoiseMs: 2, decodeMs: 3, deviceMs: 100 },
}
const checkpoint: Checkpoint = { step: 6, latents: { data: Float32Array.of(1), dims: [1], dtype: 'float32' } }
const crash = (alone: boolean): EngineError => new EngineError('engine_crashed', 'died', { alone, processNumber: 1 })
const shortage = (first: boolean): EngineError => new EngineError('out_of_memory', 'no room', { first, processNumber: 7 })

let server: RedisServer
let redis: RedisConnection
let store: JobStore
let jobs = 0
beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
  store = createJobStore({ redis, prefix: '{test}' })
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

let abort: AbortController
let calls: (EngineCallOptions & { id: string })[]
beforeEach(() => {
  abort = new AbortController()
  calls = []
})

/** A job of 10 steps that has begun `runs` times. */
async function begin(more: { runs?: number; weight?: number; strikes?: number } = {}): Promise<JobRecord> {
  const { runs = 1, strikes = 0, weight } = more
  const id = `0197a1b2-c3d4-7abc-8def-${String(++jobs).padStart(12, '0')}`
  const size = { width: 64, height: 64, num_inference_steps: 10, guidance_scale: 4, num_images_per_prompt: 1, max_sequence_length: 20 }
  const input = { model: 'm', prompt: 'p', negative_prompt: '', seed: 1, output_format: 'png' as const, ...size }
  await store.create({ id, owner: 'alice', createdAt: Date.now(), priority: 0, input, ...(weight !== undefined && { weight }) })
  for (let strike = 0; strike < strikes; strike++) await store.addStrike(id)
  for (let run = 0; run < runs; run++) await store.start(id, 'w')
  return (await store.get(id)) as JobRecord
}

type Outcome = Error | EngineResult | ((options: EngineCallOptions) => Promise<EngineResult>)

/** Runs the job in an engine whose calls end as `outcomes` says, one after the other. */
async function run(
  record: JobRecord,
  outcomes: readonly Outcome[],
  more: { isHandOver?: boolean; saved?: Checkpoint } = {},
): Promise<EngineResult> {
  const engine: Partial<Engine> = {
    async generate(id, _, options = {}) {
      calls.push({ id, ...options })
      const outcome = outcomes[calls.length - 1]
      if (outcome === undefined) throw new Error('Expected no further call')
      if (outcome instanceof Error) throw outcome
      return typeof outcome === 'function' ? await outcome(options) : outcome
    },
    checkpoint: async () => more.saved,
  }
  return await runInEngine(record, {
    engine: engine as Engine,
    store,
    callId: `${record.id}/token`,
    start: undefined,
    signal: abort.signal,
    isHandOver: () => more.isHandOver ?? false,
    reporter: createProgressReporter({ progress: async () => {}, preview: async () => {} }, () => {}),
    logger: pino({ level: 'silent' }),
  })
}

/** A call that runs until it is stopped. */
const untilStopped = ({ signal }: EngineCallOptions): Promise<EngineResult> =>
  new Promise((_, reject) => {
    const stop = (): void => reject(new EngineError('canceled', 'stopped'))
    if (signal?.aborted === true) stop()
    else signal?.addEventListener('abort', stop)
  })

const strikesOf = async ({ id }: JobRecord): Promise<number | undefined> => (await store.get(id))?.strikes

test('a job that goes well is one call, for its owner and beside others', async () => {
  const record = await begin({ weight: 3 })
  expect(await run(record, [result])).toEqual(result)
  expect(calls).toMatchObject([{ about: record.id, exclusive: false, owner: { name: 'alice', weight: 3 } }])
  expect([calls[0]?.resume, calls[0]?.newerThan]).toEqual([undefined, undefined])
  await run(await begin(), [result, result])
  expect(calls[1]?.owner).toEqual({ name: 'alice', weight: 1 })
})

describe('when the engine dies', () => {
  test('with others in it, the job is tried again alone and gets no strike', async () => {
    const record = await begin()
    expect(await run(record, [crash(false), result])).toEqual(result)
    expect(calls.map(({ exclusive }) => exclusive)).toEqual([false, true])
    expect(await strikesOf(record)).toBe(0)
  })

  test('with the job alone in it, that is a strike, and the third strike ends the job', async () => {
    const record = await begin()
    await expect(run(record, [crash(false), crash(true), crash(true), crash(true)])).rejects.toMatchObject({ code: 'engine_crashed' })
    expect(calls.map(({ exclusive }) => exclusive)).toEqual([false, true, true, true])
    expect(await strikesOf(record)).toBe(3)
  })

  test('strikes from another worker count, and the job begins alone', async () => {
    const record = await begin({ strikes: 2 })
    await expect(run(record, [new EngineError('engine_hung', 'stuck', { alone: true })])).rejects.toMatchObject({ code: 'engine_hung' })
    expect(calls.map(({ exclusive }) => exclusive)).toEqual([true])
  })

  test('the job begins again from the start, because its checkpoint may be what kills the engine', async () => {
    const record = await begin({ runs: 2 })
    await store.saveCheckpoint(record.id, encodeCheckpoint(checkpoint), 60)
    await run(record, [crash(false), result])
    expect(calls.map(({ resume }) => resume?.step)).toEqual([6, undefined])
  })
})

describe('when memory runs out', () => {
  test('the job is tried again alone in a newer process, which is not a strike', async () => {
    const record = await begin()
    expect(await run(record, [shortage(false), result])).toEqual(result)
    expect(calls.map(({ exclusive, newerThan }) => [exclusive, newerThan])).toEqual([
      [false, undefined],
      [true, 7],
    ])
    expect(await strikesOf(record)).toBe(0)
  })

  test('in a process that has run nothing else, the job fails', async () => {
    await expect(run(await begin(), [shortage(false), shortage(true)])).rejects.toMatchObject({ code: 'out_of_memory' })
    expect(calls).toHaveLength(2)
  })
})

test('a failure that is not the fault of the engine is not tried again', async () => {
  for (const error of [new EngineError('internal', 'bad size'), new Error('a bug')]) {
    calls = []
    await expect(run(await begin(), [error])).rejects.toBe(error)
    expect(calls).toHaveLength(1)
  }
})

describe('a job that was handed over', () => {
  test('continues from its checkpoint, and is charged as a whole', async () => {
    const record = await begin({ runs: 2 })
    await store.saveCheckpoint(record.id, encodeCheckpoint(checkpoint), 60)
    // 100 ms for 4 of 10 steps.
    expect((await run(record, [result])).timings.deviceMs).toBe(250)
    expect(calls[0]?.resume).toEqual(checkpoint)
  })

  test('after its last step is charged what was left', async () => {
    const record = await begin({ runs: 2 })
    await store.saveCheckpoint(record.id, encodeCheckpoint({ ...checkpoint, step: 10 }), 60)
    expect((await run(record, [result])).timings.deviceMs).toBe(100)
  })

  test('begins from the start if there is no checkpoint that can be read', async () => {
    const [without, broken, other] = [await begin({ runs: 2 }), await begin({ runs: 2 }), await begin({ runs: 2 })]
    await store.saveCheckpoint(broken.id, Buffer.from('broken'), 60)
    const bytes = encodeCheckpoint(checkpoint)
    // The version of the format.
    const at = bytes.indexOf('version') + 'version'.length
    bytes[at + 1] = (bytes[at + 1] as number) + 2
    await store.saveCheckpoint(other.id, bytes, 60)
    for (const record of [without, broken, other]) await run(record, [result, result, result])
    expect(calls.map(({ resume }) => resume)).toEqual([undefined, undefined, undefined])
  })

  test('does not use a checkpoint when it runs for the first time', async () => {
    const record = await begin()
    await store.saveCheckpoint(record.id, encodeCheckpoint(checkpoint), 60)
    await run(record, [result])
    expect(calls[0]?.resume).toBeUndefined()
  })
})

describe('when the run is ended', () => {
  const end = async (record: JobRecord, more: { isHandOver?: boolean; saved?: Checkpoint }): Promise<unknown> => {
    const running = run(record, [untilStopped], more)
    await expect.poll(() => calls.length, { timeout: 60_000 }).toBe(1)
    abort.abort('reason')
    return await running.catch((error: unknown) => error)
  }

  test('by a hand-over, its latents are kept for the next worker before the call ends', async () => {
    const record = await begin()
    expect(await end(record, { isHandOver: true, saved: checkpoint })).toMatchObject({ code: 'canceled' })
    expect(await store.loadCheckpoint(record.id)).toEqual(encodeCheckpoint(checkpoint))
  })

  test('by a hand-over before its first step, or by a cancel, nothing is kept', async () => {
    for (const more of [{ isHandOver: true }, { saved: checkpoint }]) {
      const record = await begin()
      await end(record, more)
      expect(await store.loadCheckpoint(record.id)).toBeUndefined()
      calls = []
      abort = new AbortController()
    }
  })

  test('before the call, the call ends immediately', async () => {
    abort.abort('reason')
    await expect(run(await begin(), [untilStopped])).rejects.toMatchObject({ code: 'canceled' })
  })

  test('and the engine dies at that moment, the job is not tried again and gets no strike', async () => {
    const record = await begin()
    const dying = ({ signal }: EngineCallOptions): Promise<EngineResult> =>
      new Promise((_, reject) => signal?.addEventListener('abort', () => reject(crash(true))))
    const running = run(record, [dying]).catch((error: unknown) => error)
    await expect.poll(() => calls.length, { timeout: 60_000 }).toBe(1)
    abort.abort('reason')
    expect(await running).toMatchObject({ code: 'engine_crashed' })
    expect([calls.length, await strikesOf(record)]).toEqual([1, 0])
  })
})
