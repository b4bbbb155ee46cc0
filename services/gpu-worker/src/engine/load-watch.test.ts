import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EngineSupervisor } from './engine-supervisor.ts'
import type { EngineEvent } from './engine-supervisor.ts'

let engine: EngineSupervisor
let events: EngineEvent[]
beforeEach(() => {
  events = []
})
afterEach(async () => engine?.close())

const real = new URL('engine-main.ts', import.meta.url)

function start(entry: URL, loadTimeoutMs: number): EngineSupervisor {
  engine = new EngineSupervisor({
    model: 'tiny-scenes',
    modelsDir: fileURLToPath(new URL('../../../../models', import.meta.url)),
    device: 'cpu',
    entry: fileURLToPath(entry),
    stepTimeoutMs: 60_000,
    loadTimeoutMs,
    onEvent: (event) => events.push(event),
  })
  return engine
}

test('an engine that is stopped while it loads its model is killed, and says why there is none', async () => {
  const { pid = 0 } = start(real, 1000)
  process.kill(pid, 'SIGSTOP')
  await expect(engine.untilServing()).rejects.toMatchObject({
    code: 'load_failed',
    message: expect.stringMatching(/no sign of work for 1 s/),
  })
  const silences = events.flatMap((event) => (event.type === 'silent_load' ? [event] : []))
  expect(silences.at(-1)).toEqual({ type: 'silent_load', pid, silentMs: 1000, limitMs: 1000 })
  expect(events.at(-1)).toEqual({ type: 'hung', pid, about: [] })
  await engine.close()
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})

test('one that is stopped while it loads its model again is replaced', async () => {
  await start(real, 2000).untilServing()
  const { pid: first = 0 } = engine
  process.kill(first, 'SIGKILL')
  await expect.poll(() => engine.pid).not.toBe(first)
  await expect.poll(() => engine.pid, { timeout: 20_000 }).toBeDefined()
  process.kill(engine.pid ?? 0, 'SIGSTOP')
  await engine.untilServing()
  const types = events.map(({ type }) => type).filter((type) => type !== 'silent_load')
  expect(types).toEqual(['ready', 'died', 'hung', 'died', 'ready'])
})

test('one that takes several times as long, and works a little again and again, is let be', async () => {
  await start(new URL('../../test/slow-load-engine.ts', import.meta.url), 2000).untilServing()
  expect(events.map(({ type }) => type)).toContain('silent_load')
  expect(events.map(({ type }) => type)).not.toContain('hung')
})
