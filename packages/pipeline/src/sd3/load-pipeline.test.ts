import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ModelFileError } from '../models/model-file.ts'
import { OnnxSession } from '../models/onnx-session.ts'
import { Sd3Transformer } from '../models/sd3-transformer.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import { loadPipeline, registerPipelineClass } from './load-pipeline.ts'
import type { PipelineClass } from './load-pipeline.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

const model = fileURLToPath(new URL('../../test/models/tiny-scenes-onnx', import.meta.url))
const graphs = ['text_encoder', 'text_encoder_2', 'text_encoder_3', 'transformer', 'vae_decoder', 'vae_encoder']

/** A copy of the demo model whose small files a test may damage; the graphs are links. */
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-model-'))
  await cp(model, folder, { recursive: true, filter: (source) => !source.endsWith('.onnx') })
  for (const graph of graphs) await symlink(join(model, graph, 'model.onnx'), join(folder, graph, 'model.onnx'))
})
afterEach(() => rm(folder, { recursive: true }))

async function edit(file: string, change: Record<string, unknown>): Promise<void> {
  const path = join(folder, file)
  const json = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
  await writeFile(path, JSON.stringify({ ...json, ...change }))
}
const load = (options = {}) => StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', ...options })
async function errorOfLoading(): Promise<Error> {
  try {
    await (await load()).close()
  } catch (error) {
    return error as Error
  }
  throw new Error('Expected the model to be refused, got a pipeline')
}

it.each(['StableDiffusion3InpaintPipeline', 'ORTStableDiffusion3Img2ImgPipeline'])(
  'a folder that a %s saved draws like any other',
  async (name) => {
    await edit('model_index.json', { _class_name: name })
    const pipe = await loadPipeline(folder, { device: 'cpu' })
    expect(pipe).toBeInstanceOf(StableDiffusion3Pipeline)
    await pipe.close()
  },
)

const damaged: [file: string, change: Record<string, unknown>, expected: RegExp][] = [
  ['model_index.json', { _class_name: 'FluxPipeline' }, /expected _class_name to be one of "StableDiffusion3Pipeline".*got "FluxPipeline"/],
  [
    'tokenizer/tokenizer_config.json',
    { model_max_length: 20.5 },
    /tokenizer_config\.json: expected model_max_length to be an integer from 3 up, got 20\.5/,
  ],
  ['tokenizer_2/tokenizer_config.json', { model_max_length: 2 }, /expected model_max_length to be an integer from 3 up, got 2/],
  [
    'tokenizer/tokenizer_config.json',
    { model_max_length: 1e8 },
    /expected model_max_length to be at most 20, max_position_embeddings.*got 100000000/,
  ],
  ['model_index.json', { transformer: undefined }, /expected transformer to be a \[library, class\] pair, got nothing/],
  [
    'model_index.json',
    { transformer: ['diffusers', 'FluxTransformer2DModel'] },
    /transformer\.1 to be one of "SD3Transformer2DModel".*got "FluxTransformer2DModel"/,
  ],
  ['model_index.json', { vae: 'AutoencoderKL' }, /expected vae to be a list, got "AutoencoderKL"/],
  ['model_index.json', { scheduler: ['diffusers', 'EulerDiscreteScheduler'] }, /scheduler\.1 to be .*got "EulerDiscreteScheduler"/],
  ['scheduler/scheduler_config.json', { shift: 'three' }, /shift.*"three"/],
  ['scheduler/scheduler_config.json', { lower_order_final: true }, /lower_order_final/],
  ['scheduler/scheduler_config.json', { _class_name: 'DDIMScheduler' }, /_class_name.*"DDIMScheduler"/],
  [
    'transformer/config.json',
    { joint_attention_dim: 4096 },
    /expected joint_attention_dim to be 128 as the graph's encoder_hidden_states, got 4096/,
  ],
  ['transformer/config.json', { in_channels: 4 }, /expected in_channels to be 16 as the graph's hidden_states, got 4/],
  ['transformer/config.json', { patch_size: 0 }, /expected patch_size to be above 0, got 0/],
  ['transformer/config.json', { sample_size: undefined }, /expected sample_size to be a finite number, got nothing/],
  ['vae_decoder/config.json', { scaling_factor: undefined }, /expected scaling_factor to be a finite number, got nothing/],
  ['vae_decoder/config.json', { shift_factor: '0.06' }, /expected shift_factor to be a finite number, got "0.06"/],
  ['vae_decoder/config.json', { latent_channels: 4 }, /expected latent_channels to be 16 as the graph's latent_sample, got 4/],
  [
    'text_encoder/config.json',
    { num_hidden_layers: 12 },
    /expected num_hidden_layers to be 2, one less than the hidden_states outputs.*got 12/,
  ],
  ['text_encoder_2/config.json', { projection_dim: 1280 }, /expected projection_dim to be 64, what text_encoder leaves.*got 1280/],
  ['text_encoder_3/config.json', { d_model: 4096 }, /expected d_model to be 128, the transformer's joint_attention_dim, got 4096/],
  ['tokenizer/tokenizer_config.json', { model_max_length: -1 }, /expected model_max_length to be above 0, got -1/],
  ['generation_config.json', { width: 100 }, /Expected width to be divisible by 16, got 100/],
  ['generation_config.json', { height: 512 }, /Expected height to be an integer from 16 to 256, got 512/],
  ['generation_config.json', { examples: 'a boat' }, /expected examples to be a list/],
  ['generation_config.json', { steps: 20 }, /expected known fields only, got steps/],
  ['generation_config.json', { max_sequence_length: 1000 }, /expected max_sequence_length to be at most 512, got 1000/],
]

describe('a model with a wrong field', () => {
  it.each(damaged)('(%s, %j) is refused with its file and field', async (file, change, expected) => {
    await edit(file, change)
    const { message } = await errorOfLoading()
    expect(message).toContain(join(folder, file))
    expect(message).toMatch(expected)
  })

  it('leaves none of its parts loaded', async () => {
    // The transformer is loaded last.
    await edit('transformer/config.json', { joint_attention_dim: 4096 })
    const loading = vi.spyOn(OnnxSession, 'load')
    await errorOfLoading()
    const sessions = await Promise.all(loading.mock.results.map(({ value }) => value as Promise<OnnxSession>))
    loading.mockRestore()
    expect(sessions.map(({ isReleased }) => isReleased)).toEqual(graphs.map(() => true))
  })
})

describe('a model with a missing file', () => {
  it.each([
    'scheduler/scheduler_config.json',
    'transformer/config.json',
    'transformer/model.onnx',
    'vae_decoder/model.onnx',
    'text_encoder_3/model.onnx',
    'text_encoder/config.json',
    'tokenizer_2/tokenizer.json',
  ])('(%s) is refused by its name', async (file) => {
    await rm(join(folder, file))
    expect((await errorOfLoading()).message).toContain(join(folder, file))
  })

  it('or with one that is not JSON is refused', async () => {
    await writeFile(join(folder, 'transformer/config.json'), '{"in_channels": 16,')
    const error = await errorOfLoading()
    expect(error).toBeInstanceOf(ModelFileError)
    expect(error).toMatchObject({ file: join(folder, 'transformer/config.json'), field: '' })
    expect(error.message).toContain('expected JSON')
  })

  it('loads if it is vae_encoder, generation_config.json or a part that model_index.json does not name', async () => {
    await rm(join(folder, 'vae_encoder'), { recursive: true })
    await rm(join(folder, 'generation_config.json'))
    await rm(join(folder, 'text_encoder_3'), { recursive: true })
    await edit('model_index.json', { text_encoder_3: [null, null], tokenizer_3: undefined })
    const pipe = await load()
    expect(pipe.defaults).toEqual({ width: 128, height: 128, numInferenceSteps: 28, guidanceScale: 7, maxSequenceLength: 256 })
    expect([pipe.textEncoder3, pipe.tokenizer3, pipe.vae.encoder]).toEqual([undefined, undefined, undefined])
    await expect(
      pipe.vae.encode(await pipe.vae.decode((await pipe.generate({ prompt: 'a', numInferenceSteps: 1, outputType: 'latent' })).latents!)),
    ).rejects.toThrow('Expected a model with vae_encoder/, got one without it')
    await pipe.close()
  })
})

describe('a model that would fail every request is refused when it is loaded', () => {
  it.each([
    ['tokenizer_3', 'expected tokenizer_3 to be the tokenizer of text_encoder_3, got none'],
    ['tokenizer', 'expected tokenizer to be the tokenizer of text_encoder, got none'],
    ['text_encoder', 'expected text_encoder to be a CLIP encoder, as texts cannot be encoded without one, got none'],
    ['text_encoder_2', 'expected text_encoder_2 to be a CLIP encoder'],
  ])('without %s', async (name, sentence) => {
    await edit('model_index.json', { [name]: [null, null] })
    expect((await errorOfLoading()).message).toContain(sentence)
  })

  it.each([
    ['tokenizer', undefined, 'none'],
    ['tokenizer_3', '<nowhere>', '"<nowhere>"'],
  ])('with a %s that pads with %s', async (name, pad_token, got) => {
    await edit(`${name}/tokenizer_config.json`, { pad_token })
    await rm(join(folder, name, 'special_tokens_map.json'), { force: true })
    const { message } = await errorOfLoading()
    expect(message).toContain(join(folder, name, 'tokenizer_config.json'))
    expect(message).toContain(`expected pad_token to be a token of the vocabulary, as rows are padded with it, got ${got}`)
  })

  it('whose transformer mixes precisions', async () => {
    await rm(join(folder, 'transformer/model.onnx'))
    await cp(
      fileURLToPath(new URL('../../test/fixtures/transformer-mixed-inputs.onnx', import.meta.url)),
      join(folder, 'transformer/model.onnx'),
    )
    expect((await errorOfLoading()).message).toMatch(
      /Expected the rows of .*model\.onnx to be all float32 or all float16, got hidden_states float16, .*pooled_projections float32/,
    )
  })

  it('but not if the caller leaves a CLIP encoder out and gives embeddings', async () => {
    const pipe = await load({ components: { textEncoder: null, tokenizer: null } })
    expect(pipe.textEncoder).toBeUndefined()
    await pipe.close()
  })
})

describe('loading', () => {
  it('ignores the class names of tokenizers', async () => {
    await edit('model_index.json', { tokenizer: ['transformers', 'NewName'], tokenizer_3: ['transformers', 'T5TokenizerFast'] })
    await edit('tokenizer/tokenizer_config.json', { tokenizer_class: 'AnotherName' })
    const pipe = await load()
    expect(pipe.tokenizer?.vocabSize).toBe(454)
    await pipe.close()
  })

  it('accepts the dtype of the graphs and refuses others, giving the reason for bfloat16', async () => {
    await (await load({ dtype: 'float32' })).close()
    await expect(load({ dtype: 'float16' })).rejects.toThrow(/Expected a model of dtype float16, got float32 in/)
    await expect(load({ dtype: 'bfloat16' as TensorDtype })).rejects.toThrow(
      /got bfloat16 \(ONNX Runtime for Node has no bfloat16 tensors\)/,
    )
  })

  it('uses the parts it is given and does not read theirs from the folder', async () => {
    const transformer = await Sd3Transformer.load({
      configFile: join(model, 'transformer', 'config.json'),
      graph: join(model, 'transformer', 'model.onnx'),
    })
    await rm(join(folder, 'transformer'), { recursive: true })
    const pipe = await load({ components: { transformer, textEncoder3: null } })
    expect(pipe.components.transformer).toBe(transformer)
    expect(pipe.components.textEncoder3).toBeUndefined()
    await pipe.close()
    expect(transformer.session.native).toBeDefined()
    await transformer.release()
  })
})

describe('the registry', () => {
  it('makes the class that model_index.json names', async () => {
    const sd3 = await loadPipeline(folder, { device: 'cpu' })
    expect(sd3).toBeInstanceOf(StableDiffusion3Pipeline)
    await sd3.close()
    await edit('model_index.json', { _class_name: 'ORTStableDiffusion3Pipeline' })
    const ort = await loadPipeline(basename(folder), { device: 'cpu', modelsDir: dirname(folder) })
    expect(ort).toBeInstanceOf(StableDiffusion3Pipeline)
    await ort.close()
  })

  it('takes more classes, and never replaces one', async () => {
    await edit('model_index.json', { _class_name: 'NightSkyPipeline' })
    await expect(loadPipeline(folder)).rejects.toThrow(/expected _class_name to be one of StableDiffusion3Pipeline, .*got NightSkyPipeline/)
    const nightSky: PipelineClass = {
      fromPretrained: async (name) => ({ generate: async () => `stars over ${dirname(name)}`, close: async () => undefined }),
    }
    registerPipelineClass('NightSkyPipeline', nightSky)
    const pipe = await loadPipeline(folder)
    expect(await pipe.generate({})).toBe(`stars over ${dirname(folder)}`)
    await pipe.close()
    expect(() => registerPipelineClass('NightSkyPipeline', nightSky)).toThrow(
      'Expected a pipeline class name that is free, got NightSkyPipeline',
    )
  })
})

describe('the hash of a model', () => {
  const hash = async () => {
    const pipe = await load()
    await pipe.close()
    return pipe.modelHash()
  }

  it('is the same for a copy and with another README, and differs with a changed graph or field', async () => {
    const first = await hash()
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    await writeFile(join(folder, 'README.md'), 'other words')
    expect(await hash()).toBe(first)
    const original = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
    await original.close()
    expect(await original.modelHash()).toBe(first)
    await edit('vae_decoder/config.json', { scaling_factor: 0.5 })
    const second = await hash()
    expect(second).not.toBe(first)
    await rm(join(folder, 'vae_encoder/model.onnx'))
    await cp(join(model, 'vae_decoder/model.onnx'), join(folder, 'vae_encoder/model.onnx_data'))
    expect(await hash()).not.toBe(second)
  })
})
