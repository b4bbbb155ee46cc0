import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { EngineSupervisor } from './engine-supervisor.ts'
import type { EngineEvent } from './engine-supervisor.ts'

let engine: EngineSupervisor
let events: EngineEvent[]
beforeEach(() => {
  events = []
})
afterEach(async () => engine?.close())

const real = new URL('engine-main.ts', import.meta.url)

function start(entry: URL, loadTimeoutMs: number, cacheDir?: string): EngineSupervisor {
  engine = new EngineSupervisor({
    model: 'tiny-scenes',
    modelsDir: fileURLToPath(new URL('../../../../models', import.meta.url)),
    device: 'cpu',
    entry: fileURLToPath(entry),
    stepTimeoutMs: 60_000,
    loadTimeoutMs,
    cacheDir,
    onEvent: (event) => events.push(event),
  })
  return engine
}

test('an engine that is stopped while it loads its model is killed, with the reason', async () => {
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

test('an engine that is stopped while it loads its model again is replaced', async () => {
  const cacheDir = await mkdtemp(join(tmpdir(), 'easel-cache-'))
  onTestFinished(() => rm(cacheDir, { recursive: true, force: true }))
  const open = join(cacheDir, 'open')
  await writeFile(open, '')
  await start(new URL('../../test/gated-engine.ts', import.meta.url), 4000, cacheDir).untilServing()
  const { pid: first = 0 } = engine
  await rm(open)
  process.kill(first, 'SIGKILL')
  await expect.poll(() => engine.pid).toSatisfy((pid) => pid !== undefined && pid !== first)
  process.kill(engine.pid as number, 'SIGSTOP')
  await writeFile(open, '')
  await engine.untilServing()
  const types = events.map(({ type }) => type).filter((type) => type !== 'silent_load' && type !== 'hashed')
  expect(types).toEqual(['ready', 'died', 'hung', 'died', 'ready'])
})

test('an engine that takes longer than the limit to load, but works a little now and then, is not killed', async () => {
  await start(new URL('../../test/slow-load-engine.ts', import.meta.url), 4000).untilServing()
  expect(events.map(({ type }) => type)).toContain('silent_load')
  expect(events.map(({ type }) => type)).not.toContain('hung')
})
