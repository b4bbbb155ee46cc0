/** Translates a job's input into the engine's parameters. Pure. */
import type { JobInput } from '@easel/contract'
import type { EngineParams, StartFromPicture } from './engine/protocol.ts'

/** `start`: the pictures of the input, of its size. */
export function toEngineParams(input: JobInput, start?: StartFromPicture): EngineParams {
  const optional = {
    prompt2: input.prompt_2,
    prompt3: input.prompt_3,
    negativePrompt2: input.negative_prompt_2,
    negativePrompt3: input.negative_prompt_3,
    sigmas: input.sigmas,
    guidanceInterval: input.guidance_interval,
    skipGuidanceLayers: input.skip_guidance_layers,
    skipLayerGuidanceScale: input.skip_layer_guidance_scale,
    skipLayerGuidanceStart: input.skip_layer_guidance_start,
    skipLayerGuidanceStop: input.skip_layer_guidance_stop,
    loras: input.loras,
    clipSkip: input.clip_skip,
    start,
  }
  return {
    ...(Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)) as Partial<typeof optional> as object),
    prompt: input.prompt,
    negativePrompt: input.negative_prompt,
    width: input.width,
    height: input.height,
    numInferenceSteps: input.num_inference_steps,
    guidanceScale: input.guidance_scale,
    numImagesPerPrompt: input.num_images_per_prompt,
    seed: input.seed,
    maxSequenceLength: input.max_sequence_length,
  }
}

/** Seed that gives image `index` alone: seed + index, or its low 32 bits, which draw the same, where the sum has no exact number. */
export function imageSeed(seed: number, index: number): number {
  const sum = BigInt(seed) + BigInt(index)
  return Number(sum <= BigInt(Number.MAX_SAFE_INTEGER) ? sum : BigInt.asUintN(32, sum))
}
