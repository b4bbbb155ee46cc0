/**
 * The encodings of input pictures that are used again (encoding-cache.ts). What is cached is the distribution of the latents, which is the
 * same for all requests; the sample that a request draws from it depends on its seed and is not cached.
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
