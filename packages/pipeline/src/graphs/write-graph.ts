/**
 * Writes the graph of any part of a model from its configuration and its checkpoint. This is the only list of the parts we write graphs for.
 *
 * Invariant: when a graph is returned, its configuration and every tensor that it uses have been checked, without loading any.
 */
import type { z } from 'zod'
import { readModelJson } from '../models/model-file.ts'
import { autoencoderKlGraphConfigSchema, buildVaeDecoderGraph, buildVaeEncoderGraph } from './autoencoder-kl-graph.ts'
import type { Checkpoint } from './checkpoint.ts'
import { buildClipTextGraph, clipTextGraphConfigSchema } from './clip-text-graph.ts'
import type { GraphOptions } from './layers.ts'
import { encodeOnnxModel } from './onnx-model.ts'
import type { OnnxGraph } from './onnx-model.ts'
import { buildSd3TransformerGraph, sd3TransformerGraphConfigSchema } from './sd3-transformer-graph.ts'
import { buildT5EncoderGraph, t5EncoderGraphConfigSchema } from './t5-encoder-graph.ts'

type Writer = (configFile: string, checkpoint: Checkpoint, options: GraphOptions) => Promise<OnnxGraph>

function writer<Schema extends z.ZodType>(
  schema: Schema,
  build: (config: z.output<Schema>, checkpoint: Checkpoint, options: GraphOptions) => OnnxGraph,
): Writer {
  return async (configFile, checkpoint, options) => build(await readModelJson(configFile, schema), checkpoint, options)
}

const clip = writer(clipTextGraphConfigSchema, buildClipTextGraph)
const writers = {
  transformer: writer(sd3TransformerGraphConfigSchema, buildSd3TransformerGraph),
  vae_decoder: writer(autoencoderKlGraphConfigSchema, buildVaeDecoderGraph),
  vae_encoder: writer(autoencoderKlGraphConfigSchema, buildVaeEncoderGraph),
  text_encoder: clip,
  text_encoder_2: clip,
  text_encoder_3: writer(t5EncoderGraphConfigSchema, buildT5EncoderGraph),
} as const satisfies Readonly<Record<string, Writer>>

export type GraphName = keyof typeof writers

/** The bytes of an ONNX model. */
export async function writeGraph(name: GraphName, configFile: string, checkpoint: Checkpoint, options: GraphOptions): Promise<Uint8Array> {
  return encodeOnnxModel(await writers[name](configFile, checkpoint, options))
}
