import { describe, expect, test } from 'vitest'
import { selectFiles } from './select-files.ts'

/** The layout of Stable Diffusion 3.5 medium's repository, including everything that it contains twice. */
const index = JSON.stringify({
  _class_name: 'StableDiffusion3Pipeline',
  _diffusers_version: '0.31.0',
  scheduler: ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
  text_encoder: ['transformers', 'CLIPTextModelWithProjection'],
  text_encoder_3: ['transformers', 'T5EncoderModel'],
  tokenizer: ['transformers', 'CLIPTokenizer'],
  tokenizer_3: ['transformers', 'T5TokenizerFast'],
  transformer: ['diffusers', 'SD3Transformer2DModel'],
  vae: ['diffusers', 'AutoencoderKL'],
  image_encoder: [null, null],
})
const wanted = [
  'README.md',
  'model_index.json',
  'scheduler/scheduler_config.json',
  'text_encoder/config.json',
  'text_encoder/model.safetensors',
  'text_encoder_3/config.json',
  'text_encoder_3/model-00001-of-00002.safetensors',
  'text_encoder_3/model-00002-of-00002.safetensors',
  'text_encoder_3/model.safetensors.index.json',
  'tokenizer/added_tokens.json',
  'tokenizer/merges.txt',
  'tokenizer/tokenizer_config.json',
  'tokenizer/vocab.json',
  'tokenizer_3/tokenizer.json',
  'transformer/config.json',
  'transformer/diffusion_pytorch_model.safetensors',
  'vae/config.json',
  'vae/diffusion_pytorch_model.safetensors',
]
const besides = [
  '.gitattributes',
  'mmdit-x.png',
  'sd3.5_medium.safetensors',
  'text_encoders/t5xxl_fp16.safetensors',
  'text_encoder/model.fp16.safetensors',
  'text_encoder/pytorch_model.bin',
  'text_encoder/model.onnx',
  'text_encoder_3/model.fp16-00001-of-00002.safetensors',
  'text_encoder_3/model.fp16-00002-of-00002.safetensors',
  'text_encoder_3/model.safetensors.index.fp16.json',
  'transformer/model.onnx',
  'transformer/model.onnx_data',
  'vae_decoder/config.json',
  'vae_decoder/model.onnx',
]
const all = [...wanted, ...besides]

describe('of a repository that has everything several times', () => {
  test('one copy of each part is taken, and nothing else', () => {
    expect(selectFiles(all, index, 'it')).toEqual(wanted)
  })

  test('without weights, what a single file lacks is taken', () => {
    const small = wanted.filter((path) => !/\.safetensors(\.index\.json)?$/.test(path))
    expect(selectFiles(all, index, 'it', { weights: false })).toEqual([...small, 'vae_decoder/config.json'])
    // Weights that Easel cannot read are not missed either.
    expect(selectFiles([...small, 'transformer/model.bin'], index, 'it', { weights: false })).toEqual(small)
  })

  test('the requested variant is taken where it exists', () => {
    const selected = selectFiles(all, index, 'it', { variant: 'fp16' })
    expect(selected).toContain('text_encoder/model.fp16.safetensors')
    expect(selected).toContain('text_encoder_3/model.safetensors.index.fp16.json')
    expect(selected).toContain('transformer/diffusion_pytorch_model.safetensors')
    expect(selected.filter((path) => path.startsWith('text_encoder_3/'))).toHaveLength(4)
  })
})

test('of a part that is there as one file and in shards, those are taken that are read', () => {
  const shards = (stem: string) => [
    `${stem}-00001-of-00002.safetensors`,
    `${stem}-00002-of-00002.safetensors`,
    `${stem}.safetensors.index.json`,
  ]
  const [t5, transformer] = ['text_encoder_3/model', 'transformer/diffusion_pytorch_model']
  const whole = [...all, ...shards(transformer), `${t5}.safetensors`]
  const selected = selectFiles(whole, index, 'it')
  expect(selected.filter((path) => path.startsWith('text_encoder_3/'))).toEqual(['text_encoder_3/config.json', `${t5}.safetensors`])
  expect(selected.filter((path) => path.startsWith('transformer/'))).toEqual(['transformer/config.json', ...shards(transformer)])
})

test('a folder that another Stable Diffusion 3 pipeline has saved is taken, too', () => {
  expect(selectFiles(all, index.replace('StableDiffusion3Pipeline', 'StableDiffusion3Img2ImgPipeline'), 'it')).toEqual(wanted)
})

test('an export to ONNX is taken with the data beside it', () => {
  const onnx = [
    'transformer/config.json',
    'transformer/model.onnx',
    'transformer/model.onnx.data',
    'vae_decoder/config.json',
    'vae_decoder/model.onnx',
  ]
  const small = JSON.stringify({
    _class_name: 'ORTStableDiffusion3Pipeline',
    transformer: ['optimum', 'ORTTransformer'],
    vae: ['optimum', 'ORTVae'],
  })
  expect(selectFiles(['model_index.json', ...onnx, 'transformer/notes.txt'], small, 'it')).toEqual(['model_index.json', ...onnx])
})

test('an export that calls the transformer unet is taken, with its configurations from other folders', () => {
  const files = [
    'unet/model.onnx',
    'unet/weights.pb',
    'transformer/config.json',
    'vae/config.json',
    'vae_decoder/model.onnx',
    'vae_encoder/model.onnx',
  ]
  const class_ = ['diffusers', 'OnnxRuntimeModel']
  for (const named of [
    { unet: class_, vae_decoder: class_, vae_encoder: class_ },
    { transformer: class_, vae: class_ },
  ]) {
    const index = JSON.stringify({ _class_name: 'ORTStableDiffusion3Pipeline', ...named })
    expect(selectFiles(['model_index.json', ...files, 'unet/model.mxr'], index, 'it')).toEqual(['model_index.json', ...files])
  }
})

test.each([
  [
    all.filter((path) => !path.startsWith('transformer/')),
    index,
    /names transformer in its model_index\.json but has no folder transformer\//,
  ],
  [
    [...wanted.filter((path) => !path.startsWith('text_encoder/')), 'text_encoder/pytorch_model.bin'],
    index,
    /no weights that Easel reads in text_encoder\/: only \.bin/,
  ],
  [
    ['model_index.json'],
    JSON.stringify({ _class_name: 'FluxPipeline' }),
    /Expected it to be a StableDiffusion3Pipeline.*got a FluxPipeline/,
  ],
  [['model_index.json'], 'no json', /is not JSON/],
  [['model_index.json'], '{}', /names no _class_name/],
])('what is not a whole model is an error that says why (%#)', (paths, modelIndex, says) => {
  expect(() => selectFiles(paths, modelIndex, 'it')).toThrow(says)
})
