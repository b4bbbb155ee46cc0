/** A model that this machine has not seen before: what is not known about it yet, and how it becomes known. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { startEngine } from '../src/engine/engine-supervisor.ts'
import type { EngineEvent } from '../src/engine/engine-supervisor.ts'
import { engineParams as params } from './engine-params.ts'
import { modelsDir, openWorkerBench } from './worker-bench.ts'

const slowHashEntry = fileURLToPath(new URL('slow-hash-engine.ts', import.meta.url))
const settings = { model: 'tiny-scenes', modelsDir, device: 'cpu', stepTimeoutMs: 60_000 }

test('an engine serves before the hash of its model is known, and reports it later to whoever waits for it', async () => {
  const quick = await startEngine(settings)
  const hash = await quick.contentHash()
  const events: EngineEvent[] = []
  const engine = await startEngine({ ...settings, entry: slowHashEntry, onEvent: (event) => events.push(event) })
  try {
    expect(engine.capabilities.contentHash).toBeUndefined()
    expect((await engine.generate('a', params)).images).toHaveLength(1)
    expect(events.map(({ type }) => type)).toEqual(['ready'])
    await expect(engine.contentHash(AbortSignal.abort())).rejects.toMatchObject({ code: 'canceled' })
    const waiting = engine.contentHash()
    process.kill(engine.pid ?? 0, 'SIGUSR2')
    expect(await waiting).toBe(hash)
    expect(engine.capabilities.contentHash).toBe(hash)
    expect(events.map(({ type }) => type)).toEqual(['ready', 'hashed'])
    await engine.close()
    expect(await engine.contentHash()).toBe(hash)
  } finally {
    await engine.close()
    await quick.close()
  }
})

test('a model without a preview projection gets one from its own pictures, without any run for it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'easel-models-'))
  await cp(join(modelsDir, 'tiny-scenes'), join(root, 'plain'), { recursive: true })
  await rm(join(root, 'plain', 'preview_projection.json'))
  const engine = await startEngine({ ...settings, model: 'plain', modelsDir: root })
  const previewsOf = async (id: string): Promise<number[]> => {
    const steps: number[] = []
    await engine.generate(id, params, { previewEvery: 2, onPreview: (step) => steps.push(step) })
    return steps
  }
  try {
    expect(await previewsOf('a')).toEqual([])
    // Six steps, each with and without the prompt.
    expect((await engine.stats()).pipeline.rows).toBe(12)
    expect(await previewsOf('b')).toEqual([2, 4])
    expect((await engine.stats()).pipeline.rows).toBe(24)
  } finally {
    await engine.close()
    await rm(root, { recursive: true })
  }
})

test('a picture that is ready before the hash is known is stored once it is, and its job can be canceled until then', async () => {
  const bench = await openWorkerBench()
  try {
    const worker = await bench.startWorker({ engineEntry: slowHashEntry })
    const ids = [await bench.submit(), await bench.submit()] as const
    for (const id of ids) await bench.until(id, ({ progress }) => progress.step > 0 && progress.step === progress.total)
    expect((await bench.registry.model('tiny-scenes'))?.content_hash).toBeNull()
    expect((await bench.store.get(ids[0]))?.status).toBe('running')
    await bench.store.requestCancel(ids[1])
    expect((await bench.untilEnded(ids[1])).status).toBe('canceled')
    process.kill(worker.enginePid ?? 0, 'SIGUSR2')
    const { status, provenance } = await bench.untilEnded(ids[0])
    expect([status, provenance?.model.content_hash]).toEqual(['succeeded', expect.stringMatching(/^[0-9a-f]{64}$/)])
    await expect.poll(async () => (await bench.registry.model('tiny-scenes'))?.content_hash).toBe(provenance?.model.content_hash)
  } finally {
    await bench.close()
  }
})
