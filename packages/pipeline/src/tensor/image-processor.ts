/**
 * Converts between 8-bit RGB pictures and the VAE's tensors in [-1, 1].
 *
 * Invariant: rounds exactly as diffusers' VaeImageProcessor does (each operation in the tensor's dtype, half to even at the end). Knows
 * nothing about file formats: encoding is up to the caller. Runs in the engine process.
 *
 * Source: diffusers src/diffusers/image_processor.py@58eb52c.
 */
import { fromFloat16Bits, roundToFloat16 } from './float16.ts'
import { concatRows } from './rows.ts'
import { Tensor } from './tensor.ts'

const rgbChannels = 3

/** An 8-bit RGB picture: rows from the top, three bytes per pixel. */
export interface Rgb8Image {
  readonly data: Uint8Array
  /** In pixels. */
  readonly width: number
  /** In pixels. */
  readonly height: number
}

/** An 8-bit grey picture: rows from the top, one byte per pixel. */
export interface Gray8Image {
  readonly data: Uint8Array
  /** In pixels. */
  readonly width: number
  /** In pixels. */
  readonly height: number
}

export interface PostprocessOptions {
  /** The form of the result. Default and only value: 'rgb8'. */
  readonly outputType?: 'rgb8'
}

export class VaeImageProcessor {
  /** One picture for each row of `sample`: (batch, 3, height, width) in [-1, 1]; values outside are clamped. */
  postprocess(sample: Tensor, { outputType = 'rgb8' }: PostprocessOptions = {}): Rgb8Image[] {
    if (outputType !== 'rgb8') throw new TypeError(`Expected outputType 'rgb8', got '${String(outputType)}'`)
    const [batch, channels, height, width] = sample.dims
    if (sample.dims.length !== 4 || channels !== rgbChannels)
      throw new RangeError(`Expected sample of dims [batch, 3, height, width], got [${sample.dims.join(', ')}]`)
    const isHalf = sample.dtype === 'float16'
    const values = isHalf ? sample.bits : sample.data
    if (isHalf)
      byteOfHalf ??= fromFloat16Bits(Uint16Array.from({ length: 0x10000 }, (_, bits) => bits)).map((value) => toByte(value, roundToFloat16))
    const table = byteOfHalf
    const pixels = height! * width!
    return Array.from({ length: batch! }, (_, row) => {
      const data = new Uint8Array(pixels * rgbChannels)
      for (let channel = 0; channel < rgbChannels; channel++) {
        const plane = (row * rgbChannels + channel) * pixels
        for (let pixel = 0; pixel < pixels; pixel++) {
          const value = values[plane + pixel]!
          const byte = isHalf ? table![value]! : toByte(value, Math.fround)
          // NaN would come out as a black picture; it is the usual sign of a VAE that overflows in float16.
          if (Number.isNaN(byte)) throw new RangeError(`Expected sample of numbers, got NaN in row ${row}`)
          data[pixel * rgbChannels + channel] = byte
        }
      }
      return { data, width: width!, height: height! }
    })
  }

  /**
   * (batch, 3, height, width) float32 in [-1, 1], a row for each picture; all pictures must have the same size. A tensor has these dims too,
   * with values from 0 to 1.
   */
  preprocess(images: Rgb8Image | readonly Rgb8Image[] | Tensor): Tensor {
    if (images instanceof Tensor)
      return new Tensor(
        images.data.map((value) => 2 * value - 1),
        images.dims,
      )
    const batch = 'data' in images ? [images] : images
    const [first] = batch
    if (first === undefined) throw new RangeError('Expected at least one image, got none')
    const { width, height } = first
    const pixels = width * height
    const values = new Float32Array(batch.length * rgbChannels * pixels)
    batch.forEach((image, row) => {
      if (image.width !== width || image.height !== height)
        throw new RangeError(`Expected images of ${width}x${height}, got ${image.width}x${image.height} at ${row}`)
      if (image.data.length !== pixels * rgbChannels)
        throw new RangeError(`Expected ${pixels * rgbChannels} bytes for ${width}x${height}, got ${image.data.length}`)
      for (let channel = 0; channel < rgbChannels; channel++) {
        const plane = (row * rgbChannels + channel) * pixels
        for (let pixel = 0; pixel < pixels; pixel++)
          values[plane + pixel] = 2 * Math.fround(image.data[pixel * rgbChannels + channel]! / 255) - 1
      }
    })
    return new Tensor(values, [batch.length, rgbChannels, height, width])
  }

  /**
   * (batch, 1, height / scale, width / scale) of zeros and ones: one where the upper left pixel of a square of `scale` × `scale` is at least
   * half white. All masks have one size; each is bytes or a tensor (1, 1, height, width) with values from 0 to 1.
   */
  preprocessMask(masks: readonly (Gray8Image | Tensor)[], scale: number): Tensor {
    const rows = masks.map((mask) => {
      const [width, height] = mask instanceof Tensor ? [mask.dims[3]!, mask.dims[2]!] : [mask.width, mask.height]
      const half = mask instanceof Tensor ? 0.5 : 255 / 2
      const columns = width / scale
      const cells = Float32Array.from({ length: columns * (height / scale) }, (_, cell) => {
        const pixel = Math.floor(cell / columns) * scale * width + (cell % columns) * scale
        return mask.data[pixel]! >= half ? 1 : 0
      })
      return new Tensor(cells, [1, 1, height / scale, columns])
    })
    return concatRows(rows)
  }
}

/** The result of `toByte` for every float16 bit pattern: a picture has millions of values, float16 has 65,536. */
let byteOfHalf: Float32Array | undefined

/** Converts a value in [-1, 1] to 0 to 255; NaN stays NaN. `round` rounds to the precision of the sample. */
function toByte(value: number, round: (x: number) => number): number {
  const unit = Math.min(Math.max(round(round(value * 0.5) + 0.5), 0), 1)
  return roundHalfToEven(Math.fround(unit * 255))
}

/** Rounds a number from 0 up, halves to even. */
function roundHalfToEven(x: number): number {
  const down = Math.floor(x)
  const rest = x - down
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1
  return down % 2 === 0 ? down : down + 1
}
