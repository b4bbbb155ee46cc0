/**
 * The latents of input pictures that come again (encoding-cache.ts): the distribution, which is the same for everyone. What a request draws from
 * it depends on its seed and is its own.
 */
import type { Tensor } from '../tensor/tensor.ts'
import { EncodingCache } from './encoding-cache.ts'

/** The distribution of one picture's latents. */
export interface CachedPicture {
  /** (1, latent_channels, height / 8, width / 8) */
  readonly mean: Tensor
  /** Has the same dims. */
  readonly logvar: Tensor
}

export class PictureCache extends EncodingCache<CachedPicture> {
  constructor(maxBytes: number) {
    super('pictureCacheBytes', maxBytes, ({ mean, logvar }) => mean.data.byteLength + logvar.data.byteLength)
  }
}
