/** What a call gives back. Types only. */
import type { Rgb8Image } from '../tensor/image-processor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { UsedLora } from './lora-choices.ts'

export interface GenerateTimings {
  /** Milliseconds of text encoding. */
  readonly encodeMs: number
  /** Milliseconds from the first to the last step. */
  readonly denoiseMs: number
  /** Milliseconds of the VAE and the conversion to pixels. */
  readonly decodeMs: number
  /** Milliseconds of the device that the steps took: of each run's time the part that this call's rows were of all its rows. */
  readonly deviceMs: number
}

export interface GenerateResult {
  /** One per row: all pictures of the first prompt, then of the second. Empty for outputType 'latent'. */
  readonly images: Rgb8Image[]
  /** (rows, channels, height / 8, width / 8), only for outputType 'latent'. */
  readonly latents: Tensor | undefined
  /** Seed of the (first) generator. Beyond 2^53 its low 32 bits, which draw the same. */
  readonly seed: number
  /** As the call chose them. */
  readonly loras: readonly UsedLora[]
  readonly timings: GenerateTimings
}
