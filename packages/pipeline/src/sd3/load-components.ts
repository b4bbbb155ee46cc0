/**
 * Loads the parts of a Stable Diffusion 3 model and checks them against each other.
 *
 * Invariant: either everything that model_index.json names exists and fits together, or one error names the file and the field, and nothing
 * stays loaded. Class names of tokenizers are not checked, because they change with the exporter's version.
 * Knows nothing about how the parts are used. Loading blocks its thread; runs in the engine process, once.
 */
import { dirname, join } from 'node:path'
import { z } from 'zod'
import type { GraphName } from '../graphs/write-graph.ts'
import { AutoencoderKL } from '../models/autoencoder-kl.ts'
import { ClipTextEncoder } from '../models/clip-text-encoder.ts'
import type { LoadedFiles } from '../models/loaded-files.ts'
import { ModelFileError, readModelJson } from '../models/model-file.ts'
import type { ModelPart } from '../models/model-part.ts'
import type { OnnxSessionOptions } from '../models/session-options.ts'
import { Sd3Transformer } from '../models/sd3-transformer.ts'
import { T5TextEncoder } from '../models/t5-text-encoder.ts'
import { schedulerClasses } from '../schedulers/scheduler-classes.ts'
import type { Scheduler } from '../schedulers/scheduler.ts'
import { loadTokenizer } from '../tokenizers/load-tokenizer.ts'
import type { Tokenizer } from '../tokenizers/tokenizer.ts'
import type { TextComponents } from './embed-prompts.ts'
import type { ModelSource } from './model-source.ts'
import { prepareGraphs } from './prepare-graphs.ts'
import type { GraphOrigin, GraphSettings } from './prepare-graphs.ts'

export interface Sd3Components extends TextComponents {
  readonly transformer: Sd3Transformer
  readonly vae: AutoencoderKL
  readonly scheduler: Scheduler
}

/** Parts to use instead of the folder's; null omits an optional part. */
export type ComponentOverrides = { readonly [Name in keyof Sd3Components]?: Sd3Components[Name] | null }

export interface LoadedComponents {
  readonly components: Sd3Components
  /** The parts that were loaded here and must be released. Parts that were given belong to the caller. */
  readonly owned: readonly { release(): Promise<void> }[]
  readonly origin: GraphOrigin
  /** The weight files of all parts that were loaded here. */
  readonly files: LoadedFiles
}

/**
 * The pipelines whose folders have the parts of Stable Diffusion 3, as diffusers and optimum call them. A folder names the pipeline that saved
 * it, and each of these pipelines can use the folders of all the others.
 */
export const sd3Pipelines = ['', 'Img2Img', 'Inpaint'].flatMap((task) => [
  `StableDiffusion3${task}Pipeline`,
  `ORTStableDiffusion3${task}Pipeline`,
])

/** diffusers' own class for whatever is an ONNX graph. */
const exportedGraph = 'OnnxRuntimeModel'

/** A part's library and class, or nulls where the model does not have it. */
const part = (...classes: readonly string[]) =>
  z
    .tuple([z.string().nullable(), classes.length === 0 ? z.string().nullable() : z.enum(classes).nullable()])
    .nullish()
    .transform((entry) => entry?.[1] ?? undefined)

const modelIndexSchema = z.looseObject({
  _class_name: z.enum(sd3Pipelines),
  // The registry of schedulers decides which classes there are.
  scheduler: part(),
  transformer: part('SD3Transformer2DModel', 'ORTTransformer', exportedGraph),
  vae: part('AutoencoderKL', 'ORTVae', exportedGraph),
  // Names that some exports to ONNX have in place of those two.
  unet: part(),
  vae_decoder: part(),
  text_encoder: part('CLIPTextModelWithProjection', 'ORTTextEncoder', exportedGraph),
  text_encoder_2: part('CLIPTextModelWithProjection', 'ORTTextEncoder', exportedGraph),
  text_encoder_3: part('T5EncoderModel', 'ORTTextEncoder', exportedGraph),
  tokenizer: part(),
  tokenizer_2: part(),
  tokenizer_3: part(),
})
type TokenizerName = `tokenizer${'' | '_2' | '_3'}`

export async function loadSd3Components(
  source: ModelSource,
  session: OnnxSessionOptions,
  settings: GraphSettings,
  overrides: ComponentOverrides = {},
): Promise<LoadedComponents> {
  const indexFile = source.require('model_index.json')
  const index = await readModelJson(indexFile, modelIndexSchema)
  const needed = { scheduler: index.scheduler, vae: index.vae ?? index.vae_decoder, transformer: index.transformer ?? index.unet }
  for (const name of ['scheduler', 'vae', 'transformer'] as const)
    if (needed[name] === undefined && overrides[name] == null)
      throw new ModelFileError(indexFile, name, 'a [library, class] pair', 'nothing')

  // Small files come first, so that a wrong one is found before gigabytes are read.
  const tokenizer = async (given: Tokenizer | null | undefined, name: TokenizerName) =>
    given === undefined && index[name] !== undefined ? loadTokenizer(source.require(name)) : (given ?? undefined)
  const small = {
    scheduler: overrides.scheduler ?? (await loadScheduler(source.require('scheduler'), indexFile, index.scheduler as string)),
    tokenizer: await tokenizer(overrides.tokenizer, 'tokenizer'),
    tokenizer2: await tokenizer(overrides.tokenizer2, 'tokenizer_2'),
    tokenizer3: await tokenizer(overrides.tokenizer3, 'tokenizer_3'),
  }
  const wanted = [
    ['vae_decoder', overrides.vae, true],
    ['text_encoder', overrides.textEncoder, index.text_encoder],
    ['text_encoder_2', overrides.textEncoder2, index.text_encoder_2],
    ['text_encoder_3', overrides.textEncoder3, index.text_encoder_3],
    ['transformer', overrides.transformer, true],
  ] as const
  const names = wanted.flatMap(([name, given, listed]) => (given === undefined && listed !== undefined ? [name] : []))
  const { parts, origin, files } = await prepareGraphs(source, names, settings, session)

  const owned: { release(): Promise<void> }[] = []
  async function load<Part extends { release(): Promise<void> }>(
    given: Part | null | undefined,
    name: GraphName,
    open: (part: ModelPart) => Promise<Part>,
  ): Promise<Part | undefined> {
    const part = parts.get(name)
    if (given !== undefined || part === undefined) return given ?? undefined
    const loaded = await open(part)
    owned.push(loaded)
    return loaded
  }
  try {
    const clip = (part: ModelPart) => ClipTextEncoder.load(part, session)
    const components: Sd3Components = {
      ...small,
      vae: (await load(overrides.vae, 'vae_decoder', (part) =>
        AutoencoderKL.load(part, parts.get('vae_encoder')?.graph, session),
      )) as AutoencoderKL,
      textEncoder: await load(overrides.textEncoder, 'text_encoder', clip),
      textEncoder2: await load(overrides.textEncoder2, 'text_encoder_2', clip),
      textEncoder3: await load(overrides.textEncoder3, 'text_encoder_3', (part) => T5TextEncoder.load(part, session)),
      transformer: (await load(overrides.transformer, 'transformer', (part) => Sd3Transformer.load(part, session))) as Sd3Transformer,
    }
    assertFit((name) => parts.get(name)?.configFile ?? `the ${name} given`, components)
    assertReadsTexts(indexFile, components, overrides)
    assertRowsFit(indexFile, components)
    await assertIdsFit((name) => source.look(name) ?? `the ${name} given`, components)
    return { components, owned, origin, files }
  } catch (error) {
    await Promise.all(owned.map((loaded) => loaded.release()))
    throw error
  }
}

async function loadScheduler(folder: string, indexFile: string, className: string): Promise<Scheduler> {
  const schedulerClass = schedulerClasses.get(className)
  if (schedulerClass === undefined)
    throw new ModelFileError(indexFile, 'scheduler.1', `one of ${[...schedulerClasses.keys()].join(', ')}`, JSON.stringify(className))
  const file = join(folder, 'scheduler_config.json')
  const json = await readModelJson(file, z.looseObject({}))
  try {
    return schedulerClass.fromConfig(json)
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error })
  }
}

/** The widths and channels in which two parts must agree. */
function assertFit(configOf: (name: GraphName) => string, parts: Sd3Components): void {
  const { transformer, vae, textEncoder, textEncoder2, textEncoder3 } = parts
  const vaeFile = configOf('vae_decoder')
  expectSame(vaeFile, 'latent_channels', vae.config.latent_channels, "the transformer's in_channels", transformer.config.in_channels)
  if (textEncoder3 !== undefined) {
    const file = configOf('text_encoder_3')
    expectSame(
      file,
      'd_model',
      textEncoder3.config.d_model,
      "the transformer's joint_attention_dim",
      transformer.config.joint_attention_dim,
    )
  }
  if (textEncoder !== undefined && textEncoder2 !== undefined) {
    const file = configOf('text_encoder_2')
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

/** Both CLIP encoders get rows of the length that the first tokenizer gives. */
function assertRowsFit(indexFile: string, { tokenizer, textEncoder, textEncoder2 }: Sd3Components): void {
  const length = tokenizer?.modelMaxLength ?? 0
  for (const encoder of [textEncoder, textEncoder2]) {
    const { max_position_embeddings: most } = encoder?.config ?? { max_position_embeddings: length }
    if (length <= most) continue
    const file = join(dirname(indexFile), 'tokenizer', 'tokenizer_config.json')
    throw new ModelFileError(file, 'model_max_length', `at most ${most}, max_position_embeddings of the CLIP encoders`, `${length}`)
  }
}

/** A prompt with a token that its encoder does not know would fail. Tokens that no prompt can produce do no harm. */
async function assertIdsFit(folderOf: (name: TokenizerName) => string, parts: Sd3Components): Promise<void> {
  const pairs = [
    ['tokenizer', parts.tokenizer, 'text_encoder', parts.textEncoder],
    ['tokenizer_2', parts.tokenizer2, 'text_encoder_2', parts.textEncoder2],
    ['tokenizer_3', parts.tokenizer3, 'text_encoder_3', parts.textEncoder3],
  ] as const
  for (const [name, tokenizer, encoderName, encoder] of pairs) {
    const size = encoder?.config.vocab_size
    const largest = size === undefined ? undefined : await tokenizer?.largestIdFrom(size)
    if (largest === undefined) continue
    throw new ModelFileError(folderOf(name), 'the largest id', `below ${size}, the vocab_size of ${encoderName}`, `${largest}`)
  }
}

/** A model that cannot encode text would fail every request. Omitting a CLIP encoder on purpose is up to the caller. */
function assertReadsTexts(indexFile: string, parts: Sd3Components, overrides: ComponentOverrides): void {
  const readers = [
    ['text_encoder', parts.textEncoder, overrides.textEncoder, 'tokenizer', parts.tokenizer],
    ['text_encoder_2', parts.textEncoder2, overrides.textEncoder2, 'tokenizer_2', parts.tokenizer2],
    ['text_encoder_3', parts.textEncoder3, null, 'tokenizer_3', parts.tokenizer3],
  ] as const
  for (const [name, encoder, override, tokenizerName, tokenizer] of readers) {
    if (encoder === undefined) {
      if (override === null) continue
      throw new ModelFileError(indexFile, name, 'a CLIP encoder, as texts cannot be encoded without one', 'none')
    }
    if (tokenizer === undefined) throw new ModelFileError(indexFile, tokenizerName, `the tokenizer of ${name}`, 'none')
    if (tokenizer.padTokenId === undefined)
      throw new ModelFileError(
        join(dirname(indexFile), tokenizerName, 'tokenizer_config.json'),
        'pad_token',
        'a token of the vocabulary, as rows are padded with it',
        tokenizer.padToken === undefined ? 'none' : JSON.stringify(tokenizer.padToken),
      )
  }
}
