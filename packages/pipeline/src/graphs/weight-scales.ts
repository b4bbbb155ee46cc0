/**
 * The factors of scaled float8 weights, in files of ComfyUI and related tools: weight = stored value × factor, with one factor for each matrix.
 *
 * Older files have `scale_weight` beside a weight and a marker `scaled_fp8`, newer ones `weight_scale` and `comfy_quant`. The factors of a product's
 * inputs (`scale_input`, `input_scale`) are for products in float8, which are not computed here.
 * Invariant: a factor is a finite number, or the error that reading its weight throws. Knows nothing about models.
 */
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { ModelFileError } from '../models/model-file.ts'
import { isFloat8 } from '../tensor/float8.ts'
import { readValues } from './safetensors.ts'
import type { StoredTensor } from './safetensors.ts'

/** Tensors that scale the weight beside them. Only the first two are a single factor. */
const scaleName = /^(.+)\.(?:scale_weight|weight_scale|weight_scale_\w+|weight_scalar|pre_quant_scale)$/
const plainScaleName = /\.(?:scale_weight|weight_scale)$/
/** Tensors whose presence means that a file has factors. */
const scaledMark = /(?:^|\.)(?:scaled_fp8|comfy_quant|scale_weight|weight_scale(?:_\w+)?)$/

/** The first tensor whose presence means that float8 matrices have factors. */
export function findScaledMark(names: Iterable<string>): string | undefined {
  for (const name of names) if (scaledMark.test(name)) return name
  return undefined
}

/** The same tensors, with `scale` set on weights that have a factor. */
export async function readScales(tensors: ReadonlyMap<string, StoredTensor>): Promise<ReadonlyMap<string, StoredTensor>> {
  const scaled = new Map(tensors)
  // A file holds some hundred factors.
  const handles = new Map<string, FileHandle>()
  const read = async (tensor: StoredTensor): Promise<number> => {
    const handle = handles.get(tensor.file) ?? (await open(tensor.file))
    handles.set(tensor.file, handle)
    return (await readValues(handle, tensor))[0] as number
  }
  try {
    for (const [name, tensor] of tensors) {
      const layer = scaleName.exec(name)?.[1]
      const weight = layer === undefined ? undefined : scaled.get(`${layer}.weight`)
      if (weight !== undefined) scaled.set(`${layer}.weight`, { ...weight, scale: await readScale(name, tensor, weight, read) })
    }
  } finally {
    await Promise.all([...handles.values()].map((handle) => handle.close()))
  }
  return scaled
}

async function readScale(
  name: string,
  tensor: StoredTensor,
  weight: StoredTensor,
  read: (tensor: StoredTensor) => Promise<number>,
): Promise<number | ModelFileError> {
  const { file, dtype, shape } = tensor
  const refuse = (expected: string, found: string) => new ModelFileError(file, `tensor ${name}`, expected, found)
  if (!isFloat8(weight.dtype)) return refuse('beside a float8 weight, the only kind that has a factor', `beside one of ${weight.dtype}`)
  if (!plainScaleName.test(name)) return refuse('absent: a float8 weight has one factor, scale_weight or weight_scale', 'there')
  if (weight.scale !== undefined) return refuse('the only factor of its weight', 'a second one')
  const isOne = shape.every((length) => length === 1)
  if (!isOne || (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16'))
    return refuse('one number of F32, F16 or BF16', `[${shape.join(', ')}] of ${dtype}`)
  const value = await read(tensor)
  return Number.isFinite(value) ? value : refuse('a finite number', `${value}`)
}
