/** Models exported to ONNX in the layouts that other tools write. */
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Sd3Transformer } from '../models/sd3-transformer.ts'
import { Tensor } from '../tensor/tensor.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const inTest = (path: string): string => fileURLToPath(new URL(`../../test/${path}`, import.meta.url))
const model = inTest('models/tiny-scenes-onnx')
const graphs = ['text_encoder', 'text_encoder_2', 'text_encoder_3', 'transformer', 'vae_decoder', 'vae_encoder']

/** A copy of the exported demo model that can be rearranged; the graphs are links. */
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-layout-'))
  await cp(model, folder, { recursive: true, filter: (source) => !source.endsWith('.onnx') })
  for (const graph of graphs) await symlink(join(model, graph, 'model.onnx'), join(folder, graph, 'model.onnx'))
})
afterEach(() => rm(folder, { recursive: true }))

const load = (path = folder, options = {}) => StableDiffusion3Pipeline.fromPretrained(path, { device: 'cpu', ...options })
async function draw(path: string, options = {}): Promise<Buffer> {
  const pipe = await load(path, options)
  const { images } = await pipe.generate({ prompt: 'a red boat on the sea', seed: 42, numInferenceSteps: 2 })
  await pipe.close()
  return Buffer.from(images[0]!.data)
}

/** The layout of tools that know one kind of pipeline: every part is only a graph, and its configuration lies elsewhere. */
async function toUnetLayout(configsIn: string): Promise<void> {
  await rename(join(folder, 'transformer'), join(folder, 'unet'))
  for (const part of ['transformer', 'vae']) await mkdir(join(configsIn, part), { recursive: true })
  await rename(join(folder, 'unet/config.json'), join(configsIn, 'transformer/config.json'))
  await rename(join(folder, 'vae_decoder/config.json'), join(configsIn, 'vae/config.json'))
  await rm(join(folder, 'vae_encoder/config.json'))
  const index = JSON.parse(await readFile(join(folder, 'model_index.json'), 'utf8')) as Record<string, unknown>
  const graph = ['diffusers', 'OnnxRuntimeModel']
  const { transformer: _, vae: __, ...rest } = index
  const parts = { unet: graph, vae_decoder: graph, vae_encoder: graph, text_encoder: graph, text_encoder_2: graph, text_encoder_3: graph }
  await writeFile(join(folder, 'model_index.json'), JSON.stringify({ ...rest, ...parts }))
}

describe('a transformer in unet/', () => {
  it('draws what it draws in transformer/, with its config.json in another folder', async () => {
    await toUnetLayout(folder)
    expect((await draw(folder)).equals(await draw(model))).toBe(true)
  })

  it('may have its config.json in the folder that MODEL_PARTS names, which the hash covers', async () => {
    const parts = await mkdtemp(join(tmpdir(), 'easel-parts-'))
    try {
      await writeFile(join(parts, 'model_index.json'), '{}')
      await toUnetLayout(parts)
      await expect(load()).rejects.toThrow(
        `${join(folder, 'vae_decoder/config.json')}: expected this file, got no such file; MODEL_PARTS may name a diffusers folder that has it, such as one fetched by "npx easel pull REPOSITORY --no-weights"`,
      )
      const pipe = await load(folder, { modelParts: parts })
      const hash = await pipe.modelHash()
      await pipe.close()
      const config = join(parts, 'vae/config.json')
      await writeFile(config, `${await readFile(config, 'utf8')}\n`)
      const changed = await load(folder, { modelParts: parts })
      expect(await changed.modelHash()).not.toBe(hash)
      await changed.close()
    } finally {
      await rm(parts, { recursive: true })
    }
  })

  it('gives way to one in transformer/', async () => {
    await mkdir(join(folder, 'unet'))
    await writeFile(join(folder, 'unet/model.onnx'), 'no graph')
    const pipe = await load()
    expect(pipe.transformer.session.path).toBe(join(folder, 'transformer/model.onnx'))
    await pipe.close()
  })
})

describe('a graph with its weights in model.onnx.data', () => {
  it('is loaded with them, and they are part of the hash', async () => {
    await rm(join(folder, 'vae_decoder/model.onnx'))
    await cp(inTest('fixtures/external-data'), join(folder, 'vae_decoder'), { recursive: true })
    const pipe = await load()
    // The decoder of the fixture: colour k of a pixel is the latent's channel k times k + 1.
    const latents = new Tensor(
      Float32Array.from({ length: 16 * 4 }, (_, index) => index),
      [1, 16, 2, 2],
    )
    const { data, dims } = await pipe.vae.decode(latents)
    expect(dims).toEqual([1, 3, 16, 16])
    const pixel = (channel: number, x: number, y: number): number | undefined => data[(channel * 16 + y) * 16 + x]
    expect([pixel(0, 0, 0), pixel(0, 15, 0), pixel(1, 0, 15), pixel(2, 15, 15)]).toEqual([0, 1, 12, 33])
    const hash = await pipe.modelHash()
    await pipe.close()

    const file = join(folder, 'vae_decoder/model.onnx.data')
    const weights = await readFile(file)
    weights.writeFloatLE(5, 0)
    await writeFile(file, weights)
    const changed = await load()
    expect((await changed.vae.decode(latents)).data[15]).toBe(5)
    expect(await changed.modelHash()).not.toBe(hash)
    await changed.close()

    await rm(file)
    await expect(load()).rejects.toThrow(/Expected .*vae_decoder\/model\.onnx to load on cpu, got: .*model\.onnx\.data/)
  })
})

describe('a model made for another runtime', () => {
  it.each([
    ['model.mxr', 'it holds graphs compiled for AMD GPUs (.mxr), which nothing else runs'],
    ['model.plan', 'it is made for TensorRT, whose engines and graphs (bfloat16, float8) ONNX Runtime in Node does not run'],
  ])('is refused as such: transformer/%s', async (file, says) => {
    await rename(join(folder, 'transformer/model.onnx'), join(folder, 'transformer', file))
    await expect(load()).rejects.toThrow(`${file}: ${says}`)
  })

  it('is refused as such if it has no model_index.json', async () => {
    await rm(join(folder, 'model_index.json'))
    await mkdir(join(folder, 'ONNX/transformer/bf16'), { recursive: true })
    await writeFile(join(folder, 'ONNX/transformer/bf16/model.onnx'), '')
    await expect(load()).rejects.toThrow(`Expected ${folder} to be a model that Easel runs, but it is made for TensorRT`)
    await expect(load(join(folder, 'scheduler'))).rejects.toThrow('but it has no model_index.json')
  })
})

it('a graph with any input of one row is run a row at a time', async () => {
  const transformer = await Sd3Transformer.load({
    configFile: join(model, 'transformer/config.json'),
    graph: inTest('fixtures/transformer-one-row.onnx'),
  })
  expect(transformer.fixedRows).toBe(1)
  await transformer.release()
})
