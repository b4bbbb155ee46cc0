/** Opens graphs written over the parts of the small random models in test/models, for the tests of graphs. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { autoencoderKlGraphConfigSchema, buildVaeDecoderGraph, buildVaeEncoderGraph } from '../src/graphs/autoencoder-kl-graph.ts'
import { findWeights, readCheckpoint } from '../src/graphs/checkpoint.ts'
import { buildClipTextGraph, clipTextGraphConfigSchema } from '../src/graphs/clip-text-graph.ts'
import type { GraphOptions } from '../src/graphs/layers.ts'
import { encodeOnnxModel } from '../src/graphs/onnx-model.ts'
import { buildSd3TransformerGraph, sd3TransformerGraphConfigSchema } from '../src/graphs/sd3-transformer-graph.ts'
import { buildT5EncoderGraph, t5EncoderGraphConfigSchema } from '../src/graphs/t5-encoder-graph.ts'
import { readModelJson } from '../src/models/model-file.ts'
import { OnnxSession } from '../src/models/onnx-session.ts'
import type { Feed } from '../src/models/onnx-session.ts'
import { TIMESTEP_CHANNELS, writeTimestepProj } from '../src/models/timestep-proj.ts'

const THREADS = 2
export const KINDS = ['sd3-medium-kind', 'sd35-large-kind', 'sd35-medium-kind'] as const
export const testModel = (name: string) => fileURLToPath(new URL(`models/${name}`, import.meta.url))

const parts = {
  transformer: { schema: sd3TransformerGraphConfigSchema, build: buildSd3TransformerGraph },
  vae_decoder: { schema: autoencoderKlGraphConfigSchema, build: buildVaeDecoderGraph },
  vae_encoder: { schema: autoencoderKlGraphConfigSchema, build: buildVaeEncoderGraph },
  text_encoder: { schema: clipTextGraphConfigSchema, build: buildClipTextGraph },
  text_encoder_2: { schema: clipTextGraphConfigSchema, build: buildClipTextGraph },
  text_encoder_3: { schema: t5EncoderGraphConfigSchema, build: buildT5EncoderGraph },
} as const
type PartName = keyof typeof parts
type PartConfig<Name extends PartName> = ReturnType<(typeof parts)[Name]['schema']['parse']>

export async function openGraph<Name extends PartName>(
  model: string,
  name: Name,
  options: GraphOptions,
): Promise<{ config: PartConfig<Name>; session: OnnxSession }> {
  const folder = join(testModel(model), name.startsWith('vae') ? 'vae' : name)
  const { schema, build } = parts[name]
  const config = await readModelJson(join(folder, 'config.json'), schema)
  const checkpoint = await readCheckpoint(findWeights(folder) as string)
  const bytes = encodeOnnxModel(
    (build as (...args: unknown[]) => ReturnType<typeof build>)(config, checkpoint, { threads: THREADS, ...options }),
  )
  const session = await OnnxSession.load(
    { name: folder, bytes, weights: options.weights },
    { intraOpNumThreads: options.threads ?? THREADS },
  )
  return { config: config as PartConfig<Name>, session }
}

/** (timesteps, TIMESTEP_CHANNELS) */
export function timestepFeed(timesteps: readonly number[]): Feed {
  const data = new Float32Array(timesteps.length * TIMESTEP_CHANNELS)
  for (const [row, timestep] of timesteps.entries()) writeTimestepProj(timestep, data.subarray(row * TIMESTEP_CHANNELS))
  return { data, dims: [timesteps.length, TIMESTEP_CHANNELS] }
}
