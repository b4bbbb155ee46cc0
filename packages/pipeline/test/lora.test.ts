/** LoRAs per call, from files to pictures. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { StepRecord } from '../src/runtime/step-batcher.ts'
import type { GenerateParams } from '../src/sd3/generate-params.ts'
import { LoraStore } from '../src/sd3/lora-store.ts'
import { StableDiffusion3Pipeline } from '../src/sd3/pipeline.ts'
import type { FromPretrainedOptions } from '../src/sd3/pipeline.ts'
import { startTogether } from './start-together.ts'

/** What diffusers made with torch in float32 of the same model with the same LoRAs; values as base64: tools/make_lora_goldens.py. */
interface Golden {
  seed: number
  loras: { id: string; scale: number }[]
  call: Record<string, number | string>
  steps: string[]
  rgb: string
}

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const model = ['../../../models/tiny-scenes', '../../../../shared/models/tiny-scenes-diffusers']
  .map(path)
  .find((folder) => existsSync(join(folder, 'transformer/diffusion_pytorch_model.safetensors')))
const lorasDir = path('loras')
const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, 'base64'))
const toCamel = (name: string) => name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())

const load = (options: FromPretrainedOptions = {}) => StableDiffusion3Pipeline.fromPretrained(model!, { device: 'cpu', ...options })
let pipe: StableDiffusion3Pipeline
const steps: StepRecord[] = []
beforeAll(async () => {
  if (model !== undefined) pipe = await load({ lorasDir, batching: { onStep: (step) => steps.push(step) } })
})
afterAll(() => pipe?.close())

describe.skipIf(model === undefined)('LoRAs', () => {
  it.each(['lora-wobble', 'lora-both'])('%s equals diffusers with torch', async (name) => {
    const expected = JSON.parse(readFileSync(path(`golden/lora/${name}.json`), 'utf8')) as Golden
    const call = Object.fromEntries(Object.entries(expected.call).map(([field, value]) => [toCamel(field), value]))
    const apart: number[] = []
    const { images, loras } = await pipe.generate({
      ...call,
      seed: expected.seed,
      loras: expected.loras,
      callbackOnStepEnd: (_, step, __, { latents }) => {
        const wanted = new Float32Array(bytesOf(expected.steps[step]!).buffer)
        apart.push(wanted.reduce((largest, value, at) => Math.max(largest, Math.abs(value - latents!.data[at]!)), 0))
      },
    })
    const rgb = bytesOf(expected.rgb)
    const levels = rgb.map((value, at) => Math.abs(value - images[0]!.data[at]!))
    process.stdout.write(
      `${name}: latents ${Math.max(...apart).toExponential(1)}, ${levels.filter((level) => level > 0).length} of ${rgb.length} pixel values differ\n`,
    )
    expect(apart).toHaveLength(expected.steps.length)
    expect(Math.max(...apart)).toBeLessThan(2e-3)
    expect(Math.max(...levels)).toBeLessThanOrEqual(2)
    expect(levels.filter((level) => level > 1).length).toBeLessThanOrEqual(rgb.length / 1000)
    expect(loras.map(({ id, scale }) => ({ id, scale }))).toEqual(expected.loras)
    expect(loras.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256))).toBe(true)
  })

  it('that are missing, chosen twice or without a folder are refused by name', async () => {
    const refused: [unknown, string][] = [
      [[{ id: 'none' }], 'Expected loras to be among tint, wobble, got "none"'],
      [[{ id: '../loras/tint' }], 'Expected loras to be among tint, wobble'],
      [[{ id: 'tint' }, { id: 'tint', scale: 2 }], 'each id once'],
    ]
    for (const [loras, message] of refused) await expect(pipe.generate({ prompt: 'a', loras } as GenerateParams)).rejects.toThrow(message)
    const plain = await load()
    await expect(plain.generate({ prompt: 'a', loras: [{ id: 'tint' }] })).rejects.toThrow('absent, as there is no LoRA folder')
    await plain.close()
  })

  it('are looked for again whenever a call asks: files that are new, have changed or are gone', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'easel-loras-'))
    const warnings: string[] = []
    const onWarning = (warning: Error) => warnings.push(warning.message)
    process.on('warning', onWarning)
    const store = new LoraStore(folder, pipe.transformer.loraTarget!)
    await store.refresh()
    expect(store.ids).toEqual([])
    copyFileSync(join(lorasDir, 'tint.safetensors'), join(folder, 'a.safetensors'))
    const {
      used: [first],
      layers,
    } = await store.load([{ id: 'a', scale: 1 }])
    expect((await store.load([{ id: 'a', scale: 1 }])).layers).toBe(layers)
    copyFileSync(join(lorasDir, 'wobble.safetensors'), join(folder, 'a.safetensors'))
    const {
      used: [second],
    } = await store.load([{ id: 'a', scale: 1 }])
    expect(second!.sha256).not.toBe(first!.sha256)
    mkdirSync(join(folder, 'of diffusers'))
    copyFileSync(join(lorasDir, 'tint.safetensors'), join(folder, 'of diffusers/pytorch_lora_weights.safetensors'))
    writeFileSync(join(folder, 'broken.safetensors'), 'no tensors')
    mkdirSync(join(folder, 'empty'))
    await store.refresh()
    await store.refresh()
    expect(store.ids).toEqual(['a', 'of diffusers'])
    // Warnings are emitted before the event loop turns.
    await new Promise((resolve) => setImmediate(resolve))
    expect(warnings.filter((text) => text.startsWith('The LoRA broken is left out: '))).toHaveLength(1)
    rmSync(folder, { recursive: true })
    await expect(store.load([{ id: 'a', scale: 1 }])).rejects.toThrow('expected a folder of LoRAs, got ENOENT')
    process.off('warning', onWarning)
  })

  it('that are replaced between hashing and reading are read again, so that the hash is that of what was read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'easel-loras-'))
    const file = join(folder, 'a.safetensors')
    const shipped = ['tint', 'wobble'].map((name) => join(lorasDir, `${name}.safetensors`))
    const wobble = await new LoraStore(lorasDir, pipe.transformer.loraTarget!).load([{ id: 'wobble', scale: 1 }])
    const choices = [{ id: 'a', scale: 1 }]
    /** A store whose file is replaced before each of so many readings. */
    const openStore = (replacements: number): LoraStore => {
      copyFileSync(shipped[0]!, file)
      const store = new LoraStore(folder, pipe.transformer.loraTarget!)
      let readings = 0
      vi.spyOn(store, 'fetch').mockImplementation((key, make) => {
        if (readings++ < replacements) {
          copyFileSync(shipped[readings % 2]!, `${file}.new`)
          renameSync(`${file}.new`, file)
        }
        return LoraStore.prototype.fetch.call(store, key, make)
      })
      return store
    }
    const { layers, used } = await openStore(1).load(choices)
    expect(used[0]!.sha256).toBe(wobble.used[0]!.sha256)
    expect(layers).toEqual(wobble.layers)

    const restless = openStore(Infinity)
    await expect(restless.load(choices)).rejects.toThrow(`${file}: expected to stay the same while it is read`)
    // What was read meanwhile is not kept under the wrong hash.
    expect(restless.loaded.size).toBe(0)
    rmSync(folder, { recursive: true })
  })

  it('are dropped, the least recently used first, when they take more bytes than the cache may hold', async () => {
    const store = new LoraStore(lorasDir, pipe.transformer.loraTarget!, 800_000)
    const tint = await store.load([{ id: 'tint', scale: 1 }])
    await store.load([{ id: 'wobble', scale: 1 }])
    const again = await store.load([{ id: 'tint', scale: 1 }])
    expect(store.loaded.calculatedSize).toBeLessThanOrEqual(800_000)
    expect(again.layers).not.toBe(tint.layers)
    expect([...again.layers!.keys()]).toEqual([...tint.layers!.keys()])
  })

  it('count in the memory that a call asks for, with what they add and a copy of that for each row of a step', async () => {
    const chosen = [
      { id: 'wobble', scale: 0.5 },
      { id: 'tint', scale: -0.8 },
    ]
    const askedFor = async (loras: typeof chosen, more: Partial<GenerateParams> = {}): Promise<number> => {
      let bytes = 0
      const callbackOnStepEnd = (): undefined => void (bytes = [...pipe.runtime.memory.admitted][0]!.requestBytes)
      await pipe.generate({ ...small({ seed: 1, numInferenceSteps: 1, ...more }), loras, callbackOnStepEnd })
      return bytes
    }
    const bytesOfLayers = async (loras: typeof chosen): Promise<number> => {
      const { layers } = await pipe.loras!.load(loras)
      return [...layers!.values()].reduce((sum, { down, up }) => sum + down.byteLength + up.byteLength, 0)
    }
    const plain = await askedFor([])
    for (const loras of [chosen, chosen.slice(0, 1)]) {
      // One picture with guidance has two rows.
      expect((await askedFor(loras)) - plain).toBe((await bytesOfLayers(loras)) * (1 + 2))
    }
    expect(await askedFor(chosen.map(({ id }) => ({ id, scale: 0 })))).toBe(plain)
    const [three, threePlain] = [await askedFor(chosen, { numImagesPerPrompt: 3 }), await askedFor([], { numImagesPerPrompt: 3 })]
    expect(three - threePlain).toBe((await bytesOfLayers(chosen)) * (1 + 6))
  })

  const small = (params: Partial<GenerateParams>): GenerateParams => {
    return { prompt: 'a red boat', width: 32, height: 48, numInferenceSteps: 3, outputType: 'latent', ...params }
  }
  const calls: GenerateParams[] = [
    small({ seed: 1 }),
    small({ seed: 2, loras: [{ id: 'wobble' }] }),
    small({
      seed: 3,
      loras: [
        { id: 'wobble', scale: 0.5 },
        { id: 'tint', scale: -0.8 },
      ],
    }),
    small({ seed: 4, loras: [{ id: 'tint', scale: 2 }], numImagesPerPrompt: 2 }),
    small({ seed: 5, loras: [{ id: 'wobble' }], guidanceScale: 0 }),
    small({ seed: 6, loras: [{ id: 'tint', scale: 0 }] }),
  ]
  const run = async (params: GenerateParams) => Buffer.from((await pipe.generate(params)).latents!.data.slice().buffer)

  describe('calls with LoRAs', () => {
    it('give in one step with others what they give alone, and calls without LoRAs what a pipeline without any gives', async () => {
      const alone: Buffer[] = []
      for (const call of calls) alone.push(await run(call))
      steps.length = 0
      pipe.runtime.batcher.profile.rowsFor = (_, waiting) => waiting
      for (const group of [calls, calls.toReversed(), calls.slice(1, 3), calls.slice(3)]) {
        const together = await Promise.all(
          await startTogether(
            pipe.runtime.batcher,
            group.map((call) => () => run(call)),
          ),
        )
        for (const [index, call] of group.entries()) expect(together[index]!.equals(alone[calls.indexOf(call)]!)).toBe(true)
      }
      // Several calls, each with LoRAs of its own, shared a step.
      expect(Math.max(...steps.filter(({ size }) => size.endsWith('+lora')).map((step) => step.calls))).toBeGreaterThan(2)
      const plain = await load()
      for (const index of [0, 5]) {
        const { latents } = await plain.generate({ ...calls[index], loras: undefined })
        expect(Buffer.from(latents!.data.slice().buffer).equals(alone[index]!)).toBe(true)
      }
      await plain.close()
      expect(alone[1]!.equals(alone[0]!)).toBe(false)
    })
  })
})
