/** What a call returns. Types only. */
import type { Rgb8Image } from '../tensor/image-processor.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { UsedLora } from './lora-choices.ts'

export interface GenerateTimings {
  /** Milliseconds spent on encoding text. */
  readonly encodeMs: number
  /** Milliseconds from the first to the last step. */
  readonly denoiseMs: number
  /** Milliseconds spent in the VAE and on the conversion to pixels. */
  readonly decodeMs: number
  /** Device time of the steps in milliseconds: each run's time in proportion to this call's rows among all rows of the run. */
  readonly deviceMs: number
}

export interface GenerateResult {
  /** One picture per row: all of the first prompt, then all of the second. Empty for outputType 'latent'. */
  readonly images: Rgb8Image[]
  /** (rows, channels, height / 8, width / 8), only for outputType 'latent'. */
  readonly latents: Tensor | undefined
  /** The seed of the (first) generator; beyond 2^53 its low 32 bits, which draw the same noise. */
  readonly seed: number
  /** The LoRAs as the call chose them. */
  readonly loras: readonly UsedLora[]
  readonly timings: GenerateTimings
}
