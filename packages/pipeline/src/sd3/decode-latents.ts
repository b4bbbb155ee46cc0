/** Turns latents into pictures with the VAE. Knows nothing about prompts or steps. Runs in the engine process. */
import type { Rgb8Image } from '../tensor/image-processor.ts'
import { rowsOf, sliceRows } from '../tensor/rows.ts'
import type { Tensor } from '../tensor/tensor.ts'
import { unscaleLatents } from './guidance.ts'
import type { ResidentModel } from './resident-model.ts'

/**
 * One picture for each row of `latents`, (rows, latent_channels, height / 8, width / 8). Rows are decoded one at a time because the VAE needs
 * far more memory than the steps do, and so that messages can arrive between them.
 */
export async function decodeLatents(
  { vae, runtime, imageProcessor }: Pick<ResidentModel, 'vae' | 'runtime' | 'imageProcessor'>,
  latents: Tensor,
  signal?: AbortSignal,
): Promise<Rgb8Image[]> {
  const { scaling_factor, shift_factor, latent_channels } = vae.config
  const images: Rgb8Image[] = []
  for (let row = 0; row < rowsOf(latents); row++) {
    signal?.throwIfAborted()
    const own = unscaleLatents(sliceRows(latents, row, row + 1), scaling_factor, shift_factor)
    const pixels = (own.numel * vae.scale ** 2) / latent_channels
    const sample = await runtime.decode(pixels, () => vae.decode(own), signal)
    images.push(...imageProcessor.postprocess(sample))
  }
  return images
}
