/**
 * What a call uses for parameters that it does not give: diffusers' values, overridden by the preset's, overridden by the model's
 * generation_config.json. Only the number of steps differs between diffusers' pipeline classes, so it is left to the class.
 *
 * Invariant: an unknown field in generation_config.json is an error, never ignored. Knows nothing about a call.
 */
import { z } from 'zod'
import { readModelJson } from '../models/model-file.ts'
import type { Sd3TransformerConfig } from '../models/sd3-transformer.ts'
import type { GenerateDefaults } from './generate-call.ts'
import type { ModelSource } from './model-source.ts'
import type { Preset } from './presets.ts'

const generationConfigSchema = z.strictObject({
  /** Pixels. */
  width: z.int().positive().optional(),
  /** Pixels. */
  height: z.int().positive().optional(),
  num_inference_steps: z.int().positive().optional(),
  guidance_scale: z.number().nonnegative().optional(),
  /** T5 tokens. */
  max_sequence_length: z.int().min(1).max(512).optional(),
  /** Example prompts that show what the model is good at. */
  examples: z.array(z.string().min(1).max(200)).max(12).optional(),
})

/** What a model says about itself. */
export interface ModelDefaults extends Omit<GenerateDefaults, 'numInferenceSteps'> {
  /** Undefined where the pipeline class decides. */
  readonly numInferenceSteps: number | undefined
  /** Example prompts that show what the model is good at. */
  readonly examples?: readonly string[]
}

/** A side in pixels: the one the model was trained for, or the nearest below it that it can draw. */
export function defaultSide(transformer: Sd3TransformerConfig, vaeScale: number): number {
  const { sample_size, patch_size, pos_embed_max_size } = transformer
  const patches = Math.min(Math.max(1, Math.floor(sample_size / patch_size)), pos_embed_max_size)
  return patches * patch_size * vaeScale
}

/** Sizes are undefined unless the model gives them; otherwise their default follows from its architecture. */
export async function readDefaults(
  source: ModelSource,
  preset: Preset | undefined,
): Promise<Omit<ModelDefaults, 'width' | 'height'> & Partial<Pick<ModelDefaults, 'width' | 'height'>>> {
  const file = source.find('generation_config.json')
  const config = file === undefined ? {} : await readModelJson(file, generationConfigSchema)
  return {
    width: config.width,
    height: config.height,
    numInferenceSteps: config.num_inference_steps ?? preset?.numInferenceSteps,
    guidanceScale: config.guidance_scale ?? preset?.guidanceScale ?? 7,
    maxSequenceLength: config.max_sequence_length ?? 256,
    examples: config.examples,
  }
}
