/** LoRAs, from their folder to what the engine reports about them. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startEngine } from '../src/engine/engine-supervisor.ts'
import type { EngineSupervisor } from '../src/engine/engine-supervisor.ts'
import type { EngineParams } from '../src/engine/protocol.ts'
import { toModelRecord } from '../src/status/to-model-record.ts'
import { engineParams } from './engine-params.ts'

const modelsDir = fileURLToPath(new URL('../../../models', import.meta.url))
const shipped = fileURLToPath(new URL('../../../packages/pipeline/test/loras', import.meta.url))
const params: EngineParams = { ...engineParams, width: 32, height: 32, numInferenceSteps: 2 }

describe('an engine with a folder of LoRAs', () => {
  let engine: EngineSupervisor
  let lorasDir: string
  beforeAll(async () => {
    lorasDir = await mkdtemp(join(tmpdir(), 'easel-loras-'))
    await copyFile(join(shipped, 'wobble.safetensors'), join(lorasDir, 'wobble.safetensors'))
    engine = await startEngine({ model: 'tiny-scenes', modelsDir, lorasDir, device: 'cpu', stepTimeoutMs: 60_000 })
  })
  afterAll(async () => {
    await engine?.close()
    await rm(lorasDir, { recursive: true })
  })

  test('draws with those that a call names, and reports which files they were', async () => {
    expect(engine.capabilities.loras).toEqual(['wobble'])
    const { images: plain, loras: none } = await engine.generate('plain', params)
    const { images, loras } = await engine.generate('wobbling', { ...params, loras: [{ id: 'wobble', scale: 1 }] })
    expect(none).toEqual([])
    expect(loras).toEqual([{ id: 'wobble', scale: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string }])
    expect(Buffer.from(images[0]!.rgb).equals(plain[0]!.rgb)).toBe(false)
  })

  test('lists what is added to the folder while it runs', async () => {
    await copyFile(join(shipped, 'tint.safetensors'), join(lorasDir, 'tint.safetensors'))
    await vi.waitFor(async () => expect((await engine.stats()).loras).toEqual(['tint', 'wobble']), { timeout: 60_000 })
    const { loras } = await engine.stats()
    expect(toModelRecord(engine.capabilities, { maxPixels: undefined, stepMs: null, pictureMs: null, loras, now: 0 }).loras).toEqual([
      'tint',
      'wobble',
    ])
  })

  test('fails only the call whose LoRA is missing', async () => {
    await expect(engine.generate('gone', { ...params, loras: [{ id: 'gone', scale: 1 }] })).rejects.toMatchObject({ code: 'internal' })
    await expect(engine.generate('after', params)).resolves.toMatchObject({ loras: [] })
  })
})
