import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { messageOfLoading } from '../../test/message-of-loading.ts'
import { testModel } from '../../test/open-graph.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import type { WrittenTensor } from '../../test/write-safetensors.ts'
import { unproject, writeSingleFile } from '../../test/write-single-file.ts'
import { readCheckpoint } from '../graphs/checkpoint.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'

const exported = fileURLToPath(new URL('../../test/models/tiny-scenes-onnx', import.meta.url))
const call = { prompt: 'a red boat', width: 32, height: 32, numInferenceSteps: 2, guidanceScale: 3, seed: 5 }
const pictures = new Map<string, Promise<string>>()

let root: string
let folder: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'easel-weights-'))
  folder = join(root, 'model')
  await cp(testModel('sd35-medium-kind'), folder, { recursive: true })
})
afterEach(() => rm(root, { recursive: true }))
afterAll(() => pictures.clear())

async function draw(model: string, options: FromPretrainedOptions = {}): Promise<string> {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...options })
  const { images } = await pipe.generate(call)
  await pipe.close()
  return createHash('sha256').update(images[0]!.data).digest('hex')
}
/** What the model draws when nothing has been moved. */
function drawPlain(kind: string): Promise<string> {
  const picture = pictures.get(kind) ?? draw(testModel(kind))
  pictures.set(kind, picture)
  return picture
}

describe('weights in a folder', () => {
  it('are not read before the first request where they are mapped', async () => {
    const encodings = async (weights: 'packed' | 'mapped'): Promise<number> => {
      const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', weights })
      await pipe.warmUp()
      const { misses } = pipe.engineStats().promptCache
      await pipe.close()
      return misses
    }
    expect([await encodings('packed'), await encodings('mapped')]).toEqual([1, 0])
  })

  it('keep only the transformer open between two runs where they are mapped', async () => {
    const openParts = async (weights: 'packed' | 'mapped'): Promise<boolean[]> => {
      const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu', weights })
      await pipe.generate(call)
      const { transformer, textEncoder, textEncoder2, vae } = pipe
      const sessions = [transformer.session, textEncoder!.session, textEncoder2!.session, vae.decoder, vae.encoder!]
      await expect.poll(() => weights === 'packed' || vae.decoder.native === undefined).toBe(true)
      const open = sessions.map(({ native }) => native !== undefined)
      await pipe.close()
      return open
    }
    expect(await openParts('packed')).toEqual([true, true, true, true, true])
    expect(await openParts('mapped')).toEqual([true, false, false, false, false])
  })

  it('may be links into the cache of Hugging Face, where the model has the name of its repository', async () => {
    const cache = join(root, 'models--some--model')
    const snapshot = join(cache, 'snapshots', 'abc')
    await mkdir(join(cache, 'blobs'), { recursive: true })
    for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile()) continue
      const blob = join(cache, 'blobs', `${basename(entry.parentPath)}-${entry.name}`)
      const link = join(snapshot, entry.parentPath.slice(folder.length + 1), entry.name)
      await mkdir(join(link, '..'), { recursive: true })
      await rename(join(entry.parentPath, entry.name), blob)
      await symlink(blob, link)
    }
    const pipe = await StableDiffusion3Pipeline.fromPretrained(snapshot, { device: 'cpu' })
    expect(pipe.model.id).toBe('some/model')
    const original = await StableDiffusion3Pipeline.fromPretrained(testModel('sd35-medium-kind'), { device: 'cpu' })
    expect(await pipe.modelHash()).toBe(await original.modelHash())
    await pipe.close()
    await original.close()
    expect(await draw(snapshot)).toBe(await drawPlain('sd35-medium-kind'))
  })

  it('may lie in a linked folder that models share, and count in the hash as if they lay in the model', async () => {
    const before = await hashOf(folder)
    const shared = join(root, 'shared')
    await rename(join(folder, 'transformer'), shared)
    await symlink(shared, join(folder, 'transformer'))
    expect(await draw(folder)).toBe(await drawPlain('sd35-medium-kind'))
    expect(await hashOf(folder)).toBe(before)
    const config = join(shared, 'config.json')
    await writeFile(config, (await readFile(config, 'utf8')).replace('{', '{ "changed": 1,'))
    expect(await hashOf(folder)).not.toBe(before)
  })

  it('are those of the requested variant', async () => {
    const vae = join(folder, 'vae')
    const transformer = join(folder, 'transformer')
    await rename(join(vae, 'diffusion_pytorch_model.safetensors'), join(vae, 'diffusion_pytorch_model.fp16.safetensors'))
    const name = join(transformer, 'diffusion_pytorch_model.safetensors')
    await rename(name, join(transformer, 'diffusion_pytorch_model.fp16.safetensors'))
    await writeFile(name, 'broken')
    expect(await messageOfLoading(folder)).toContain(`${name}: expected`)
    // The text encoders have no such variant and are read without one, as in diffusers.
    expect(await draw(folder, { variant: 'fp16' })).toBe(await drawPlain('sd35-medium-kind'))
    await writeFile(join(folder, 'text_encoder', 'model.fp16.safetensors'), 'broken')
    expect(await messageOfLoading(folder, { variant: 'fp16' })).toContain('model.fp16.safetensors: expected')
    await cp(testModel('sd35-medium-kind'), folder, { recursive: true })
    expect(await messageOfLoading(folder, { variant: 'fp61' })).toBe(
      `${folder}: expected weights of variant fp61 in at least one part, got none`,
    )
  })

  it('may lie beside links that lead nowhere and beside pipes, which are not read', async () => {
    const hash = await hashOf(folder)
    await symlink(join(root, 'absent'), join(folder, 'another-model.safetensors'))
    await symlink(join(root, 'absent'), join(folder, 'transformer', 'pytorch_model.bin'))
    execFileSync('mkfifo', [join(folder, 'vae', 'pipe.json')])
    expect(await draw(folder, { batching: { cacheDir: join(root, 'cache') } })).toBe(await drawPlain('sd35-medium-kind'))
    expect(await hashOf(folder)).toBe(hash)
  })

  it.each(['vae/config.json', 'vae/diffusion_pytorch_model.safetensors', 'tokenizer/tokenizer.json', 'model_index.json'])(
    'are refused where %s is a pipe, which might never end, or a folder',
    async (name) => {
      const file = join(folder, name)
      await rm(file)
      execFileSync('mkfifo', [file])
      expect(await messageOfLoading(folder)).toMatch(
        new RegExp(`${name.replaceAll('.', '\\.')}: expected a readable .*, got something that is not a file`),
      )
      await rm(file)
      await mkdir(file)
      expect(await messageOfLoading(folder)).toMatch(new RegExp(`${name.replaceAll('.', '\\.')}: expected a readable .*, got a folder`))
    },
  )

  it('of a VAE may have the names that its attention had before diffusers 0.15', async () => {
    const file = join(folder, 'vae', 'diffusion_pytorch_model.safetensors')
    const { tensors } = await readCheckpoint(file)
    const old: Record<string, WrittenTensor> = {}
    const data = await readFile(file)
    for (const [name, { dtype, shape, offset, length }] of tensors) {
      const named = name
        .replace(/\.to_out\.0\./, '.proj_attn.')
        .replace(/\.to_q\./, '.query.')
        .replace(/\.to_k\./, '.key.')
        .replace(/\.to_v\./, '.value.')
      old[named] = { dtype, shape: [...shape], data: data.subarray(offset, offset + length) }
    }
    writeSafetensors(file, old)
    expect(await draw(folder)).toBe(await drawPlain('sd35-medium-kind'))
  })

  it('give pictures of the largest size that the positions allow, if the sample size is larger', async () => {
    const file = join(folder, 'transformer', 'config.json')
    const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
    await rm(join(folder, 'generation_config.json'))
    for (const [sample_size, side] of [
      [8, 64],
      [9, 64],
      [1e9, 48 * 16],
    ]) {
      await writeFile(file, JSON.stringify({ ...config, sample_size }))
      const pipe = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
      expect(pipe.defaults).toMatchObject({ width: side, height: side })
      await pipe.close()
    }
  })

  it('that do not fit the configuration are refused with the tensor or field that is wrong', async () => {
    const file = join(folder, 'transformer', 'config.json')
    const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
    await writeFile(file, JSON.stringify({ ...config, attention_head_dim: 8 }))
    expect(await messageOfLoading(folder)).toMatch(
      /diffusion_pytorch_model\.safetensors: expected tensor .* to be \[.*\] of F32, F16, BF16, F8_E4M3, F8_E5M2, got \[/,
    )
    await writeFile(file, JSON.stringify({ ...config, num_layers: 5 }))
    expect(await messageOfLoading(folder)).toContain('expected tensor transformer_blocks.4.attn.to_q.weight to be')
    await writeFile(file, JSON.stringify({ ...config, num_layers: 1e9 }))
    expect(await messageOfLoading(folder)).toContain('expected tensor transformer_blocks.999999999.attn.to_q.weight to be')
    await writeFile(file, JSON.stringify({ ...config, qk_norm: null }))
    expect(await messageOfLoading(folder)).toMatch(
      /expected qk_norm of its config\.json to be "rms_norm", because there is a tensor .*norm_q\.weight, got null/,
    )
    await writeFile(file, JSON.stringify({ ...config, qk_norm: 'layer_norm' }))
    expect(await messageOfLoading(folder)).toContain(`${file}: expected qk_norm to be`)
  })

  it('are refused where a configuration is impossible', async () => {
    const wrong: [string, Record<string, unknown>, RegExp][] = [
      [
        'vae',
        { up_block_types: ['UpDecoderBlock2D'] },
        /expected up_block_types of its config\.json to be 4, one for each of block_out_channels, got 1/,
      ],
      ['text_encoder', { hidden_act: 'mish' }, /expected hidden_act to be one of .*"quick_gelu".*got "mish"/],
      [
        'text_encoder_3',
        { relative_attention_max_distance: 8 },
        /expected relative_attention_max_distance of its config\.json to be above 8, .*got 8/,
      ],
      ['text_encoder_3', { is_decoder: true }, /expected is_decoder to be false, got true/],
      ['text_encoder_3', { feed_forward_proj: 'gated-mish' }, /expected feed_forward_proj to be one of .*"gated-gelu".*got "gated-mish"/],
    ]
    await cp(testModel('sd3-medium-kind'), folder, { recursive: true })
    for (const [part, change, sentence] of wrong) {
      const file = join(folder, part, 'config.json')
      const text = await readFile(file, 'utf8')
      await writeFile(file, JSON.stringify({ ...(JSON.parse(text) as object), ...change }))
      expect(await messageOfLoading(folder)).toMatch(sentence)
      await writeFile(file, text)
    }
    await rm(join(folder, 'vae'), { recursive: true })
    await writeFile(join(folder, 'vae'), 'no folder')
    expect(await messageOfLoading(folder)).toMatch(
      /vae_decoder\/model\.onnx: expected this file, or \.safetensors weights in .*vae, got nothing/,
    )
  })

  it('that end early are refused', async () => {
    const file = join(folder, 'vae', 'diffusion_pytorch_model.safetensors')
    await writeFile(file, (await readFile(file)).subarray(0, 100_000))
    expect(await messageOfLoading(folder)).toContain(`${file}: expected the data to be`)
  })

  it('in pickles are not read, and the error says which files are there', async () => {
    await rename(join(folder, 'vae', 'diffusion_pytorch_model.safetensors'), join(folder, 'vae', 'diffusion_pytorch_model.bin'))
    expect(await messageOfLoading(folder)).toMatch(/\.safetensors weights in .*vae, got config\.json, diffusion_pytorch_model\.bin/)
  })
})

describe('a folder of both', () => {
  it('runs an exported graph where there is one, and a graph of our own for the rest', async () => {
    const kind = join(root, 'mixed')
    await cp(testModel('sd3-medium-kind'), kind, { recursive: true })
    // The same architecture at another size, with the text encoders and tokenizers of the exported model.
    for (const part of ['text_encoder', 'text_encoder_2', 'text_encoder_3', 'transformer', 'vae_decoder', 'vae_encoder', 'scheduler'])
      await cp(join(exported, part), join(kind, part), { recursive: true, force: true })
    const pipe = await StableDiffusion3Pipeline.fromPretrained(kind, { device: 'cpu' })
    expect(pipe.origin.graphs).toEqual({
      transformer: 'onnx',
      vae_decoder: 'onnx',
      vae_encoder: 'onnx',
      text_encoder: 'onnx',
      text_encoder_2: 'onnx',
      text_encoder_3: 'onnx',
    })
    await pipe.close()
    await rm(join(kind, 'vae_decoder'), { recursive: true })
    await rm(join(kind, 'vae_encoder'), { recursive: true })
    const mixed = await StableDiffusion3Pipeline.fromPretrained(kind, { device: 'cpu' })
    expect(mixed.origin.graphs).toMatchObject({
      transformer: 'onnx',
      vae_decoder: 'easel float32 packed',
      vae_encoder: 'easel float32 packed',
    })
    expect((await mixed.generate({ ...call, numInferenceSteps: 1 })).images).toHaveLength(1)
    await mixed.close()
  })
})

describe('without T5', () => {
  it('a model draws like one that never had it, and has a hash of its own', async () => {
    const model = testModel('sd35-large-kind')
    const off = { components: { textEncoder3: null, tokenizer3: null } }
    const without = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...off })
    const all = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
    expect(without.textEncoder3).toBeUndefined()
    expect(without.origin.graphs).not.toHaveProperty('text_encoder_3')
    expect(await without.modelHash()).not.toBe(await all.modelHash())
    await without.close()
    await all.close()

    const gone = join(root, 'gone')
    await cp(model, gone, { recursive: true })
    await rm(join(gone, 'text_encoder_3'), { recursive: true })
    expect(await messageOfLoading(gone)).toContain('text_encoder_3/model.onnx: expected this file, or .safetensors weights')
    expect(await messageOfLoading(gone)).toContain('TEXT_ENCODER_3=off')
    expect(await draw(gone, off)).toBe(await draw(model, off))
    expect(await draw(gone, off)).not.toBe(await drawPlain('sd35-large-kind'))
  })
})

describe('a single file', () => {
  it.each(['sd3-medium-kind', 'sd35-medium-kind'])(
    'of %s draws what its folder draws, with the other parts from a diffusers folder',
    async (kind) => {
      const file = join(root, 'merged.safetensors')
      await writeSingleFile(testModel(kind), file)
      const parts = join(root, 'parts')
      await cp(testModel(kind), parts, { recursive: true })
      await unproject(parts)
      const expected = { packed: await draw(parts), mapped: await draw(parts, { weights: 'mapped' }) }
      for (const part of ['transformer', 'vae', 'text_encoder', 'text_encoder_2'])
        for (const name of await readdir(join(parts, part))) if (name !== 'config.json') await rm(join(parts, part, name))
      const pipe = await StableDiffusion3Pipeline.fromPretrained(file, { device: 'cpu', modelParts: parts })
      expect(pipe.model.id).toBe('merged')
      const hash = await pipe.modelHash()
      await pipe.close()
      expect(await draw(file, { modelParts: parts })).toBe(expected.packed)
      expect(await draw(file, { modelParts: parts, weights: 'mapped' })).toBe(expected.mapped)

      // Parts beside the file are found without being named; the hash covers the file and the parts that were used.
      await rename(file, join(parts, 'merged.safetensors'))
      expect(await draw(join(parts, 'merged.safetensors'))).toBe(expected.packed)
      await writeFile(join(parts, 'unrelated.safetensors'), 'another model')
      expect(await hashOf(join(parts, 'merged.safetensors'))).toBe(hash)
    },
  )

  it('that holds no transformer is refused with what it holds, even if the other folder has one', async () => {
    const file = join(root, 'style.safetensors')
    const matrix = { dtype: 'F32', shape: [4, 64], data: new Uint8Array(1024) }
    writeSafetensors(file, { 'transformer.transformer_blocks.0.attn.to_q.lora_A.weight': matrix })
    expect(await messageOfLoading(file, { modelParts: folder })).toMatch(
      /style\.safetensors: expected a transformer of .*, got a LoRA, which belongs in LORAS_DIR/,
    )
    writeSafetensors(file, { 'diffusion_model.joint_blocks.0.x_block.attn.proj.weight': matrix })
    expect(await messageOfLoading(file, { modelParts: folder })).toMatch(
      /expected a transformer of Stable Diffusion 3, .*, got a transformer without x_embedder\.proj\.weight, so of another kind: diffusion_model\.joint_blocks/,
    )
  })

  it('is refused with the name of the configuration if that is another model’s', async () => {
    const file = join(root, 'sd3.5_large.safetensors')
    await writeSingleFile(testModel('sd35-large-kind'), file)
    for (const part of ['text_encoder', 'text_encoder_2', 'vae'])
      await cp(join(testModel('sd35-large-kind'), part), join(folder, part), { recursive: true })
    expect(await messageOfLoading(file, { modelParts: folder })).toBe(
      `${file}: expected tensor transformer_blocks.3.attn.to_q.weight to be [64, 64] of F32, F16, BF16, F8_E4M3, F8_E5M2, ` +
        `as ${join(folder, 'transformer', 'config.json')} says, got [96, 96] of BF16`,
    )
  })

  it('alone is refused with the parts that it lacks', async () => {
    const file = join(root, 'alone', 'merged.safetensors')
    await mkdir(join(root, 'alone'))
    await writeSingleFile(testModel('sd35-medium-kind'), file)
    expect(await messageOfLoading(file)).toMatch(/alone: expected model_index\.json there, .*MODEL_PARTS may name a diffusers folder/)
  })
})

async function hashOf(model: string): Promise<string> {
  const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
  const hash = await pipe.modelHash()
  await pipe.close()
  return hash
}
