import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { startEngine } from './engine-supervisor.ts'
import type { EngineSupervisor } from './engine-supervisor.ts'
import type { EngineParams } from './protocol.ts'
import { silentTicks, SilenceWatch } from './silence-watch.ts'

describe('an engine on the CPU', () => {
  const params: EngineParams = {
    prompt: 'a blue house',
    negativePrompt: '',
    width: 64,
    height: 64,
    numInferenceSteps: 1,
    guidanceScale: 1,
    numImagesPerPrompt: 1,
    seed: 1,
    maxSequenceLength: 20,
  }
  let engine: EngineSupervisor
  let events: string[]
  async function start(stepTimeoutMs: number): Promise<void> {
    events = []
    engine = await startEngine({
      model: 'tiny-scenes',
      modelsDir: fileURLToPath(new URL('../../../../models', import.meta.url)),
      device: 'cpu',
      entry: fileURLToPath(new URL('../../test/busy-engine.ts', import.meta.url)),
      stepTimeoutMs,
      onEvent: ({ type }) => type === 'hashed' || events.push(type),
    })
  }
  afterEach(async () => engine?.close())

  test('may compute for longer than the limit, and is killed after the limit when it is stopped', async () => {
    await start(2000)
    expect((await engine.generate('a', { ...params, prompt: 'a slow boat' })).images).toHaveLength(1)
    expect(events).toEqual(['ready'])
    await expect(engine.generate('b', { ...params, prompt: 'hang' })).rejects.toMatchObject({ code: 'engine_hung' })
    expect(events).toEqual(['ready', 'hung', 'died'])
  })

  test('is killed when it computes without end', async () => {
    await start(300)
    await expect(engine.generate('a', { ...params, prompt: 'an endless sea' })).rejects.toMatchObject({ code: 'engine_hung' })
    expect(events).toEqual(['ready', 'hung', 'died'])
  })
})

describe('the silence', () => {
  const tickMs = 20
  let child: ChildProcess
  afterEach(() => child?.kill('SIGKILL'))

  /** How many ticks pass before the process counts as hung. Before each tick, a busy process has used some processor time. */
  async function ticksToHang(watch: SilenceWatch, images: number, isBusy: boolean): Promise<number> {
    for (let ticks = 1; ; ticks++) {
      if (isBusy) await usesTime()
      if (watch.tick(images)) return ticks
    }
  }

  async function usesTime(): Promise<void> {
    const before = processorTime()
    while (processorTime() === before) await sleep(1)
  }

  function processorTime(): string {
    return readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ').slice(13, 15).join()
  }

  /** A process that has begun to wait. */
  async function idle(): Promise<ChildProcess> {
    const sleeper = spawn('sleep', ['1000'])
    while (!readFileSync(`/proc/${sleeper.pid}/stat`, 'utf8').includes('(sleep) S ')) await sleep(1)
    return sleeper
  }
  const busy = (): ChildProcess => spawn('sh', ['-c', 'while :; do :; done'])

  test('of a process that waits may be as long as the limit, and longer for more images', async () => {
    child = await idle()
    for (const images of [1, 3]) {
      const watch = new SilenceWatch({ pid: child.pid, isOnCpu: true, tickMs })
      expect(await ticksToHang(watch, images, false)).toBe(silentTicks * images + 1)
    }
  })

  test('of a process that computes may be ten times as long on the CPU, and no longer on another device', async () => {
    child = busy()
    const onCpu = await ticksToHang(new SilenceWatch({ pid: child.pid, isOnCpu: true, tickMs }), 1, true)
    expect(onCpu).toBeGreaterThanOrEqual(silentTicks * 10)
    expect(onCpu).toBeLessThanOrEqual(silentTicks * 10 + 1)
    expect(await ticksToHang(new SilenceWatch({ pid: child.pid, isOnCpu: false, tickMs }), 1, true)).toBe(silentTicks + 1)
  })

  test('may be four times as long as the longest that a message has ended', async () => {
    child = await idle()
    const watch = new SilenceWatch({ pid: child.pid, isOnCpu: true, tickMs })
    for (let ticks = 0; ticks < 8; ticks++) watch.tick(1)
    watch.hear()
    for (let ticks = 0; ticks < 2; ticks++) watch.tick(1)
    watch.hear()
    expect(await ticksToHang(watch, 1, false)).toBe(8 * 4 + 1)
    watch.rest()
    expect(await ticksToHang(watch, 1, false)).toBe(8 * 4 + 1)
  })
})
