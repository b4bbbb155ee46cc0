/**
 * The parts of a Stable Diffusion 3 folder (diffusers' layout with one ONNX graph a component), loaded and checked against each other.
 *
 * Invariant: either everything model_index.json names is there and fits together, or one error names the file and the field and nothing
 * stays loaded. Class names of tokenizers are not checked: they change with the exporter's version.
 * Knows nothing about how the parts are used. Loading blocks its thread; runs in the engine process, once.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { AutoencoderKL } from '../models/autoencoder-kl.ts'
import { ClipTextEncoder } from '../models/clip-text-encoder.ts'
import { ModelFileError, readModelJson } from '../models/model-file.ts'
import type { OnnxSessionOptions } from '../models/onnx-session.ts'
import { Sd3Transformer } from '../models/sd3-transformer.ts'
import { T5TextEncoder } from '../models/t5-text-encoder.ts'
import { FlowMatchEulerDiscreteScheduler } from '../schedulers/flow-match-euler-discrete.ts'
import type { Scheduler } from '../schedulers/scheduler.ts'
import { loadTokenizer } from '../tokenizers/load-tokenizer.ts'
import type { TextComponents } from './embed-prompts.ts'

export interface Sd3Components extends TextComponents {
  readonly transformer: Sd3Transformer
  readonly vae: AutoencoderKL
  readonly scheduler: Scheduler
}

/** Parts to use instead of the folder's; null leaves an optional one out. */
export type ComponentOverrides = { readonly [Name in keyof Sd3Components]?: Sd3Components[Name] | null }

export interface LoadedComponents {
  readonly components: Sd3Components
  /** What was loaded here and has to be released; parts that were given belong to whoever made them. */
  readonly owned: readonly { release(): Promise<void> }[]
}

/** A part by its library and class, or nulls where the model has none. */
const part = (...classes: readonly string[]) =>
  z
    .tuple([z.string().nullable(), classes.length === 0 ? z.string().nullable() : z.enum(classes).nullable()])
    .nullish()
    .transform((entry) => entry?.[1] ?? undefined)

const modelIndexSchema = z.looseObject({
  _class_name: z.enum(['StableDiffusion3Pipeline', 'ORTStableDiffusion3Pipeline']),
  scheduler: part('FlowMatchEulerDiscreteScheduler'),
  transformer: part('SD3Transformer2DModel', 'ORTTransformer'),
  vae: part('AutoencoderKL', 'ORTVae'),
  text_encoder: part('CLIPTextModelWithProjection', 'ORTTextEncoder'),
  text_encoder_2: part('CLIPTextModelWithProjection', 'ORTTextEncoder'),
  text_encoder_3: part('T5EncoderModel', 'ORTTextEncoder'),
  tokenizer: part(),
  tokenizer_2: part(),
  tokenizer_3: part(),
})
type PartName = 'scheduler' | 'transformer' | 'vae' | `text_encoder${'' | '_2' | '_3'}` | `tokenizer${'' | '_2' | '_3'}`

export async function loadSd3Components(
  folder: string,
  session: OnnxSessionOptions,
  overrides: ComponentOverrides = {},
): Promise<LoadedComponents> {
  const indexFile = join(folder, 'model_index.json')
  const index = await readModelJson(indexFile, modelIndexSchema)
  const owned: { release(): Promise<void> }[] = []

  /** The given part, or the folder's, or undefined where the model has none. */
  async function optional<Part>(
    given: Part | null | undefined,
    name: PartName,
    load: (folder: string) => Promise<Part>,
  ): Promise<Part | undefined> {
    if (given !== undefined) return given ?? undefined
    if (index[name] === undefined) return undefined
    return load(join(folder, name))
  }
  async function required<Part>(given: Part | null | undefined, name: PartName, load: (folder: string) => Promise<Part>): Promise<Part> {
    const found = await optional(given, name, load)
    if (found === undefined) throw new ModelFileError(indexFile, name, 'a [library, class] pair', 'nothing')
    return found
  }
  const owning =
    <Part extends { release(): Promise<void> }>(load: (folder: string, options: OnnxSessionOptions) => Promise<Part>) =>
    async (folder: string) => {
      const loaded = await load(folder, session)
      owned.push(loaded)
      return loaded
    }

  try {
    const clip = owning((folder, options) => ClipTextEncoder.load(folder, options))
    const t5 = owning((folder, options) => T5TextEncoder.load(folder, options))
    const transformer = owning((folder, options) => Sd3Transformer.load(folder, options))
    const vae = owning((_, options) => AutoencoderKL.load(folder, options))
    const components: Sd3Components = {
      // Small files first: a wrong one is found before gigabytes are read.
      scheduler: await required(overrides.scheduler, 'scheduler', loadScheduler),
      tokenizer: await optional(overrides.tokenizer, 'tokenizer', loadTokenizer),
      tokenizer2: await optional(overrides.tokenizer2, 'tokenizer_2', loadTokenizer),
      tokenizer3: await optional(overrides.tokenizer3, 'tokenizer_3', loadTokenizer),
      vae: await required(overrides.vae, 'vae', vae),
      textEncoder: await optional(overrides.textEncoder, 'text_encoder', clip),
      textEncoder2: await optional(overrides.textEncoder2, 'text_encoder_2', clip),
      textEncoder3: await optional(overrides.textEncoder3, 'text_encoder_3', t5),
      transformer: await required(overrides.transformer, 'transformer', transformer),
    }
    assertFit(folder, components)
    assertReadsTexts(folder, components, overrides)
    return { components, owned }
  } catch (error) {
    await Promise.all(owned.map((loaded) => loaded.release()))
    throw error
  }
}

async function loadScheduler(folder: string): Promise<Scheduler> {
  const file = join(folder, 'scheduler_config.json')
  const json = await readModelJson(file, z.looseObject({}))
  try {
    return FlowMatchEulerDiscreteScheduler.fromConfig(json)
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error })
  }
}

/** Widths and channels that two parts share. */
function assertFit(folder: string, parts: Sd3Components): void {
  const { transformer, vae, textEncoder, textEncoder2, textEncoder3 } = parts
  const vaeFile = join(folder, 'vae_decoder', 'config.json')
  expectSame(vaeFile, 'latent_channels', vae.config.latent_channels, "the transformer's in_channels", transformer.config.in_channels)
  if (textEncoder3 !== undefined) {
    const file = join(folder, 'text_encoder_3', 'config.json')
    expectSame(
      file,
      'd_model',
      textEncoder3.config.d_model,
      "the transformer's joint_attention_dim",
      transformer.config.joint_attention_dim,
    )
  }
  if (textEncoder !== undefined && textEncoder2 !== undefined) {
    const file = join(folder, 'text_encoder_2', 'config.json')
    const projection = transformer.config.pooled_projection_dim - textEncoder.config.projection_dim
    expectSame(
      file,
      'projection_dim',
      textEncoder2.config.projection_dim,
      "what text_encoder leaves of the transformer's pooled_projection_dim",
      projection,
    )
    const room = transformer.config.joint_attention_dim - textEncoder.config.hidden_size
    if (textEncoder2.config.hidden_size > room)
      throw new ModelFileError(
        file,
        'hidden_size',
        `at most ${room}, what text_encoder leaves of joint_attention_dim`,
        `${textEncoder2.config.hidden_size}`,
      )
  }
}

function expectSame(file: string, field: string, found: number, meaning: string, expected: number): void {
  if (found !== expected) throw new ModelFileError(file, field, `${expected}, ${meaning}`, `${found}`)
}

/** A model whose texts cannot be read would fail every request. A CLIP encoder that was left out on purpose is the caller's business. */
function assertReadsTexts(folder: string, parts: Sd3Components, overrides: ComponentOverrides): void {
  const readers = [
    ['text_encoder', parts.textEncoder, overrides.textEncoder, 'tokenizer', parts.tokenizer],
    ['text_encoder_2', parts.textEncoder2, overrides.textEncoder2, 'tokenizer_2', parts.tokenizer2],
    ['text_encoder_3', parts.textEncoder3, null, 'tokenizer_3', parts.tokenizer3],
  ] as const
  const indexFile = join(folder, 'model_index.json')
  for (const [name, encoder, override, tokenizerName, tokenizer] of readers) {
    if (encoder === undefined) {
      if (override === null) continue
      throw new ModelFileError(indexFile, name, 'a CLIP encoder, as texts cannot be read without', 'none')
    }
    if (tokenizer === undefined) throw new ModelFileError(indexFile, tokenizerName, `the tokenizer of ${name}`, 'none')
    if (tokenizer.padTokenId === undefined)
      throw new ModelFileError(
        join(folder, tokenizerName, 'tokenizer_config.json'),
        'pad_token',
        'a token of the vocabulary, as rows are filled up with it',
        tokenizer.padToken === undefined ? 'none' : JSON.stringify(tokenizer.padToken),
      )
  }
}
