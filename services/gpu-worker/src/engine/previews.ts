/**
 * Previews of one model's calls, as small pictures.
 *
 * The projection ships with the model, or is fitted to the first pictures that are drawn; until then there are no previews. No extra pictures
 * are drawn for it, because a few steps of a real model on a CPU take minutes. Runs in the engine process.
 */
import { PreviewFit, projectPreview, readPreviewProjection } from '@easel/pipeline'
import type { PreviewImage, PreviewProjection, Rgb8Image, StableDiffusion3Pipeline, Tensor } from '@easel/pipeline'

/** The number of pictures to which the projection is fitted. More of them show more colours, but each takes some time on the engine's thread. */
const fittedPictures = 4

export class Previews {
  #projection: PreviewProjection | undefined
  /** Undefined when the projection is final. */
  #fit: PreviewFit | undefined

  constructor(projection: PreviewProjection | undefined, channels: number) {
    this.#projection = projection
    this.#fit = projection === undefined ? new PreviewFit(channels) : undefined
  }

  static async open({ model, vae }: StableDiffusion3Pipeline): Promise<Previews> {
    const channels = vae.config.latent_channels
    let projection: PreviewProjection | undefined
    try {
      projection = await readPreviewProjection(model.folder, channels)
    } catch (error) {
      process.emitWarning(error as Error)
    }
    return new Previews(projection, channels)
  }

  /** One preview for each row of the latents, or none while there is no projection. */
  of(latents: Tensor): PreviewImage[] {
    return this.#projection === undefined ? [] : projectPreview(this.#projection, latents)
  }

  /** Fits the projection to the latents after the last step and the pictures that they were decoded to. */
  learn(latents: Tensor, images: readonly Rgb8Image[]): void {
    if (this.#fit === undefined || latents.dims[0] !== images.length) return
    this.#fit.add(latents, images)
    this.#projection = this.#fit.projection
    if (this.#fit.pictures >= fittedPictures) this.#fit = undefined
  }
}
