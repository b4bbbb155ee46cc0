import type { Tensor } from './tensor.ts'

/** A picture of 8-bit RGB, row by row, three bytes a pixel. */
export interface Rgb8Image {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
}

export class VaeImageProcessor {
  postprocess(_sample: Tensor, _options: { readonly outputType?: 'rgb8' } = {}): Rgb8Image[] {
    throw new Error('Not written yet')
  }

  preprocess(_images: readonly Rgb8Image[]): Tensor {
    throw new Error('Not written yet')
  }
}
