/**
 * The stored tensors of one part of a model, from one .safetensors file or from the shards that an index names.
 *
 * Invariant: a tensor that a graph asks for exists, has the expected shape and a dtype that graphs can compute with; otherwise one error
 * names the file, the tensor, what was expected and what was found. Tensors that no graph asks for are never checked.
 * Knows nothing about what the tensors mean.
 */
import { readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { ModelFileError, readModelJson } from '../models/model-file.ts'
import { isFloat8 } from '../tensor/float8.ts'
import type { LinearShapes } from '../tensor/lora.ts'
import { describeQuantisation } from './describe-quantisation.ts'
import { readSafetensorsHeader } from './safetensors.ts'
import type { StoredTensor } from './safetensors.ts'
import { findScaledMark, readScales } from './weight-scales.ts'

/** The dtypes of weights that graphs can read. */
const weightDtypes = ['F32', 'F16', 'BF16', 'F8_E4M3', 'F8_E5M2'] as const

export type WeightTensor = StoredTensor & { readonly dtype: (typeof weightDtypes)[number]; readonly scale: number }

/** Names of weight files without variant and ending: diffusers' parts have the first, transformers' parts the second. */
const stems = ['diffusion_pytorch_model', 'model'] as const

export interface CheckpointLayout {
  /** Whether norm_out and the last norm1_context keep shift before scale, as Stability's single files do. Default false. */
  readonly shiftFirst?: boolean
  /** Whether a text encoder returns its pooled vector without the projection. Default false. */
  readonly unprojected?: boolean
  /** The configuration that the weights must fit, where it does not lie beside them; named in errors. Default none. */
  readonly configFile?: string | undefined
}

export class Checkpoint implements CheckpointLayout {
  /** The file named in errors: the weights, or the index of the shards. */
  readonly source: string
  readonly tensors: ReadonlyMap<string, StoredTensor>
  readonly shiftFirst: boolean
  readonly unprojected: boolean
  readonly configFile: string | undefined
  /** A tensor whose presence means that the float8 matrices of this part have factors; undefined if there is none. */
  readonly scaledMark: string | undefined

  constructor(
    source: string,
    tensors: ReadonlyMap<string, StoredTensor>,
    { shiftFirst = false, unprojected = false, configFile }: CheckpointLayout = {},
  ) {
    this.source = source
    this.tensors = tensors
    this.shiftFirst = shiftFirst
    this.unprojected = unprojected
    this.configFile = configFile
    this.scaledMark = findScaledMark(tensors.keys())
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  /** The layers that have a matrix, judged by names and shapes. */
  get linears(): LinearShapes {
    const linears = new Map<string, readonly [number, number]>()
    for (const [name, { shape }] of this.tensors)
      if (name.endsWith('.weight') && shape.length === 2) linears.set(name.slice(0, -'.weight'.length), shape as [number, number])
    return linears
  }

  /** Returns the tensor, which must have this shape. */
  tensor(name: string, shape: readonly number[]): WeightTensor {
    const said = this.configFile === undefined ? '' : `, as ${this.configFile} says`
    const expected = `[${shape.join(', ')}] of ${weightDtypes.join(', ')}${said}`
    const tensor = this.tensors.get(name)
    const refuse = (from: string, found: string): ModelFileError => {
      const quantisation = dtype === undefined ? describeQuantisation(this.tensors) : undefined
      return new ModelFileError(from, `tensor ${name}`, expected, quantisation === undefined ? found : `${found}: ${quantisation}`)
    }
    const dtype = weightDtypes.find((each) => each === tensor?.dtype)
    if (tensor === undefined) throw refuse(this.source, 'no such tensor')
    if (dtype === undefined || !isSameShape(tensor.shape, shape))
      throw refuse(tensor.file, `[${tensor.shape.join(', ')}] of ${tensor.dtype}`)
    const { scale = 1 } = tensor
    if (scale instanceof ModelFileError) throw scale
    return { ...tensor, dtype, scale }
  }

  /** The same for the matrix of a linear layer, which must have a factor if other float8 matrices of its part do. */
  matrix(name: string, shape: readonly number[]): WeightTensor {
    const tensor = this.tensor(name, shape)
    if (isFloat8(tensor.dtype) && this.scaledMark !== undefined && this.tensors.get(name)?.scale === undefined)
      throw new ModelFileError(
        tensor.file,
        `tensor ${name}`,
        `float8 with a factor (scale_weight or weight_scale), as ${this.scaledMark} says`,
        'none',
      )
    return tensor
  }
}

function isSameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis])
}

/**
 * The weights of a part's folder: the file, or the index of shards, or undefined where there is neither. `variant` as in diffusers, for
 * example 'fp16'; a part that lacks it falls back to the files without a variant. Where none is named, the files without a variant are taken,
 * else those of the only variant there is.
 */
export function findWeights(folder: string, variant?: string): string | undefined {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined
  const names = new Set(readdirSync(folder))
  const wanted = variant === undefined ? [undefined, ...onlyVariant(names)] : [variant, undefined]
  for (const each of wanted)
    for (const stem of stems) {
      const suffix = each === undefined ? '' : `.${each}`
      const [shards, whole] = [`${stem}.safetensors.index${suffix}.json`, `${stem}${suffix}.safetensors`]
      // Where a folder has both, diffusers reads the shards and transformers the single file.
      const found = (stem === 'model' ? [whole, shards] : [shards, whole]).find((name) => names.has(name))
      if (found !== undefined) return join(folder, found)
    }
  return undefined
}

function onlyVariant(names: ReadonlySet<string>): string[] {
  const variants = new Set<string>()
  for (const name of names) {
    const match = /^(?:diffusion_pytorch_model|model)\.(?:safetensors\.index\.([\w-]+)\.json|([\w-]+)\.safetensors)$/.exec(name)
    const variant = match?.[1] ?? match?.[2]
    // Shards of a variant look like one: model.fp16-00001-of-00002.safetensors.
    if (variant !== undefined && !/-\d+-of-\d+$/.test(variant)) variants.add(variant)
  }
  return variants.size === 1 ? [...variants] : []
}

/** `weights`: what findWeights found. */
export async function readCheckpoint(weights: string): Promise<Checkpoint> {
  if (!weights.endsWith('.json')) return new Checkpoint(weights, await readScales(await readSafetensorsHeader(weights)))
  const index = await readModelJson(weights, z.looseObject({ weight_map: z.record(z.string(), z.string()) }))
  const shards = new Map<string, Map<string, StoredTensor>>()
  const tensors = new Map<string, StoredTensor>()
  for (const [name, shard] of Object.entries(index.weight_map)) {
    if (basename(shard) !== shard || !shard.endsWith('.safetensors'))
      throw new ModelFileError(weights, `weight_map.${name}`, 'the name of a .safetensors file beside the index', JSON.stringify(shard))
    const file = join(dirname(weights), shard)
    const stored = shards.get(shard) ?? (await readSafetensorsHeader(file))
    shards.set(shard, stored)
    const tensor = stored.get(name)
    if (tensor === undefined) throw new ModelFileError(file, `tensor ${name}`, `there, as ${basename(weights)} says`, 'no such tensor')
    tensors.set(name, tensor)
  }
  return new Checkpoint(weights, await readScales(tensors))
}
