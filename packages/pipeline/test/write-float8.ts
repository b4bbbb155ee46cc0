/** Float8 weights for tests: the values of float8, and tensors in it, plain or with a factor as in ComfyUI's files. */
import { fromFloat16Bits } from '../src/tensor/float16.ts'
import type { WrittenTensor } from './write-safetensors.ts'
import type { Tensors } from './write-single-file.ts'

const layouts = { F8_E4M3: { exponentBits: 4, bias: 7, largest: 448 }, F8_E5M2: { exponentBits: 5, bias: 15, largest: 57344 } } as const
export type Float8 = keyof typeof layouts

/** The value of each byte. */
export function float8Values(type: Float8): Float32Array {
  const { exponentBits, bias, largest } = layouts[type]
  const mantissaBits = 7 - exponentBits
  return Float32Array.from({ length: 256 }, (_, byte) => {
    const exponent = (byte & 0x7f) >> mantissaBits
    const fraction = (byte & ((1 << mantissaBits) - 1)) / (1 << mantissaBits)
    const size = exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias)
    return (byte >> 7 === 1 ? -1 : 1) * (size > largest ? NaN : size)
  })
}

/** The values of a tensor of F32, F16 or BF16. */
function floatsOf({ dtype, data }: WrittenTensor): Float32Array {
  const bytes = Uint8Array.from(data)
  if (dtype === 'F32') return new Float32Array(bytes.buffer)
  const bits = new Uint16Array(bytes.buffer)
  return dtype === 'F16' ? fromFloat16Bits(bits) : new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer)
}

export function fromFloats(shape: number[], values: Float32Array): WrittenTensor {
  return { dtype: 'F32', shape, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) }
}

/** A tensor in float8 with one factor, and the same values in float32. */
interface Quantised {
  readonly stored: WrittenTensor
  readonly scale: number
  readonly meant: WrittenTensor
}

/**
 * Quantises as torch and the tools built on it do: the largest value becomes the largest float8, and ties are rounded to even. `toScale` may change
 * the factor, for example to a power of two.
 */
function quantise(tensor: WrittenTensor, type: Float8 = 'F8_E4M3', toScale = (scale: number): number => scale): Quantised {
  const values = floatsOf(tensor)
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const scale = Math.fround(toScale(largest / layouts[type].largest))
  const numbers = float8Values(type)
  // Positive numbers ascend with their bytes.
  const sizes = numbers.subarray(0, 128).filter((value) => !Number.isNaN(value) && value <= layouts[type].largest)
  const data = Uint8Array.from(values, (value) => {
    const size = Math.fround(Math.abs(value) / scale)
    let [low, high] = [0, sizes.length - 1]
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (sizes[middle]! <= size) low = middle
      else high = middle
    }
    const [toLow, toHigh] = [size - sizes[low]!, sizes[high]! - size]
    const nearest = toLow === toHigh ? low + (low % 2) : toLow < toHigh ? low : high
    return nearest + (value < 0 ? 0x80 : 0)
  })
  const meant = Float32Array.from(data, (byte) => numbers[byte]! * scale)
  return { stored: { dtype: type, shape: tensor.shape, data }, scale, meant: fromFloats(tensor.shape, meant) }
}

/** A part with every tensor cast to float8, as in a plain float8 file, and the same values in float32. */
export function toPlainFloat8(tensors: Tensors, type: Float8 = 'F8_E4M3'): { stored: Tensors; meant: Tensors } {
  const stored: Tensors = {}
  const meant: Tensors = {}
  for (const [name, tensor] of Object.entries(tensors)) {
    const quantised = quantise(tensor, type, () => 1)
    stored[name] = quantised.stored
    meant[name] = quantised.meant
  }
  return { stored, meant }
}

/** Whether quantisers convert the tensor: they convert the matrices of linear layers, but not embedding tables. */
const isMatrix = (name: string, { shape }: WrittenTensor): boolean =>
  shape.length === 2 && name.endsWith('.weight') && !/embed|shared|relative_attention_bias/.test(name.replace(/[\w.]*embedder/, ''))

export interface ScaledNames {
  readonly weight: string
  readonly input: string
  /** Other tensors of the file, under the prefix of the part. `layers`: the names of the quantised layers. */
  readonly marks: (layers: readonly string[]) => Tensors
}

const json = (value: object): WrittenTensor => {
  const data = Buffer.from(JSON.stringify(value))
  return { dtype: 'U8', shape: [data.length], data }
}

/** The two naming schemes of factors in ComfyUI's files, the older first. */
export const scaledNames: Readonly<Record<'scale_weight' | 'weight_scale', ScaledNames>> = {
  scale_weight: {
    weight: 'scale_weight',
    input: 'scale_input',
    marks: () => ({ scaled_fp8: { dtype: 'F8_E4M3', shape: [0], data: new Uint8Array(0) } }),
  },
  weight_scale: {
    weight: 'weight_scale',
    input: 'input_scale',
    marks: (layers) => Object.fromEntries(layers.map((layer) => [`${layer}.comfy_quant`, json({ format: 'float8_e4m3fn' })])),
  },
}

/** A part with its matrices in scaled float8, and the same values in float32. */
export function toScaledFloat8(
  tensors: Tensors,
  { weight, input, marks }: ScaledNames = scaledNames.scale_weight,
  ...how: [type?: Float8, toScale?: (scale: number) => number]
): { stored: Tensors; meant: Tensors } {
  const stored: Tensors = {}
  const meant: Tensors = {}
  const layers: string[] = []
  for (const [name, tensor] of Object.entries(tensors)) {
    stored[name] = meant[name] = tensor
    if (!isMatrix(name, tensor)) continue
    const layer = name.slice(0, -'.weight'.length)
    const quantised = quantise(tensor, ...how)
    stored[name] = quantised.stored
    meant[name] = quantised.meant
    stored[`${layer}.${weight}`] = fromFloats([], Float32Array.of(quantised.scale))
    stored[`${layer}.${input}`] = fromFloats([], Float32Array.of(0.03))
    layers.push(layer)
  }
  return { stored: { ...stored, ...marks(layers) }, meant }
}
