/**
 * A LoRA from its .safetensors file, checked against the model and laid out for its graph.
 *
 * Accepts what diffusers, peft and kohya's scripts write. Invariant: a file is untrusted, and every tensor in it is either used or refused,
 * because ignoring one would silently give a picture other than the one its maker saw. A LoRA for text encoders is refused, because
 * requests share embeddings. Knows nothing about requests or strengths.
 */
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { ModelFileError, readModelJson } from '../models/model-file.ts'
import { loraGroup } from '../tensor/lora.ts'
import type { LoraLayer, LoraLayers, LoraTarget } from '../tensor/lora.ts'
import { LoraNames } from './lora-names.ts'
import type { NamedLinears } from './lora-names.ts'
import { readSafetensors, readValues } from './safetensors.ts'
import type { StoredTensor } from './safetensors.ts'

/** A module as the file holds it: checked, but not read. */
export interface LoraModule extends NamedLinears {
  /** (rank, from) */
  readonly down: StoredTensor
  /** (to of all linears, rank) */
  readonly up: StoredTensor
  readonly rank: number
  readonly alpha: StoredTensor | number
  /** Whether its strength is alpha over the root of the rank, instead of over the rank. */
  readonly isRankStabilized: boolean
}

const matrixName =
  /^(.+?)[._](lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.down|lora_linear_layer\.up)(?:\.[\w-]+)?\.weight$/
const alphaName = /^(.+?)\.alpha$/
const textEncoderName = /^(?:base_model\.model\.)?(?:text_encoder|lora_te|text_model|clip_[lg]\.|t5\.)/

/** peft's settings of an adapter: from adapter_config.json or, if diffusers wrote the file, from its own metadata. */
const configSchema = z.looseObject({
  lora_alpha: z.number().nullish(),
  alpha_pattern: z.record(z.string(), z.number()).nullish(),
  use_rslora: z.boolean().nullish(),
  use_dora: z.boolean().nullish(),
})
type LoraConfig = z.infer<typeof configSchema>

/** Checks the whole file without reading any weights. */
export async function readLoraHeader(file: string, target: LoraTarget): Promise<LoraModule[]> {
  const { tensors, metadata } = await readSafetensors(file)
  const config = await readConfig(file, metadata)
  if (config.use_dora === true) throw new ModelFileError(file, 'use_dora', 'false, as magnitudes are not supported', 'true')
  const found = new Map<string, { down?: StoredTensor; up?: StoredTensor; alpha?: StoredTensor }>()
  for (const [name, tensor] of tensors) {
    if (textEncoderName.test(name))
      throw new ModelFileError(
        file,
        `tensor ${name}`,
        'of the transformer, as a LoRA of text encoders is not supported',
        'one of a text encoder',
      )
    const matrix = matrixName.exec(name)
    const module = matrix?.[1] ?? alphaName.exec(name)?.[1]
    if (module === undefined)
      throw new ModelFileError(file, `tensor ${name}`, 'lora_A, lora_B, lora_down, lora_up or alpha of a linear layer', 'something else')
    const role = matrix === null ? 'alpha' : /A$|down$/.test(matrix[2] as string) ? 'down' : 'up'
    const others = found.get(module)
    if (others?.[role] !== undefined) throw new ModelFileError(file, `tensor ${name}`, `the only ${role} of its module`, 'a second one')
    found.set(module, { ...others, [role]: tensor })
  }
  if (found.size === 0) throw new ModelFileError(file, '', 'a LoRA', 'a file without tensors')
  const names = new LoraNames(target.shapes)
  const taken = new Set<string>()
  return [...found].map(([module, { down, up, alpha }]) => {
    const named = names.find(module)
    if (named === undefined) throw new ModelFileError(file, `module ${module}`, 'a linear layer of this transformer', 'no such layer')
    for (const linear of named.linears) {
      if (taken.has(linear)) throw new ModelFileError(file, `module ${module}`, 'one module for each layer', `a second one for ${linear}`)
      taken.add(linear)
    }
    if (down === undefined || up === undefined)
      throw new ModelFileError(file, `module ${module}`, 'two matrices, down and up', down === undefined ? 'no down' : 'no up')
    const [to = 0, from = 0] = target.shapes.get(named.linears[0] as string) ?? []
    const rank = down.shape[0] ?? 0
    expectFloats(file, `down of ${module}`, down, [Math.max(1, rank), from])
    expectFloats(file, `up of ${module}`, up, [to * named.linears.length, rank])
    if (alpha !== undefined && alpha.shape.reduce((product, length) => product * length, 1) !== 1)
      throw new ModelFileError(file, `alpha of ${module}`, 'one value', `[${alpha.shape.join(', ')}]`)
    // Trainers whose alpha was given as a whole number store an integer.
    if (alpha !== undefined && alpha.dtype !== 'I64') expectFloats(file, `alpha of ${module}`, alpha, alpha.shape)
    const isRankStabilized = config.use_rslora === true
    return { ...named, down, up, rank, alpha: alpha ?? configuredAlpha(file, config, named.linears[0] as string) ?? rank, isRankStabilized }
  })
}

/** Reads the file. Every factor except the request's own is applied to the result. */
export async function readLora(file: string, target: LoraTarget): Promise<LoraLayers> {
  const layers = new Map<string, LoraLayer>()
  const modules = await readLoraHeader(file, target)
  const handle = await open(file)
  try {
    for (const { linears, isStability, down, up, rank, alpha, isRankStabilized } of modules) {
      const [downValues, upValues] = [await readValues(handle, down), await readValues(handle, up)]
      const strength = typeof alpha === 'number' ? alpha : ((await readValues(handle, alpha))[0] as number)
      const factor = strength / (isRankStabilized ? Math.sqrt(rank) : rank)
      for (const [index, name] of linears.entries()) {
        const [to, from] = target.shapes.get(name) as readonly [number, number]
        // Rotating the rows by half swaps shift and scale from the order in training to that of the checkpoint.
        const turned = isStability !== target.shiftFirst && hasTwoOrders(name, to, from) ? to / 2 : 0
        const rowOf = (row: number) => index * to + ((row + turned) % to)
        layers.set(name, layOut(downValues, upValues, { rank, from, to, factor, rowOf }))
      }
    }
  } finally {
    await handle.close()
  }
  return layers
}

/** The size in bytes of what readLora makes of these modules. */
export function laidOutBytes(modules: readonly LoraModule[], { shapes }: LoraTarget): number {
  let values = 0
  for (const { linears, rank } of modules)
    for (const name of linears) {
      const [to, from] = shapes.get(name) as readonly [number, number]
      values += Math.ceil(rank / loraGroup) * loraGroup * (to + from)
    }
  return values * Float32Array.BYTES_PER_ELEMENT
}

/** The norms whose scale and shift Stability stores the other way round: the last ones, which have two parts. */
function hasTwoOrders(name: string, to: number, from: number): boolean {
  return name === 'norm_out.linear' || (name.endsWith('.norm1_context.linear') && to === from * 2)
}

interface LayOutOptions {
  readonly rank: number
  readonly from: number
  readonly to: number
  readonly factor: number
  /** The row of the stored matrix that belongs to a row of the layer. */
  readonly rowOf: (row: number) => number
}

function layOut(down: Float32Array, up: Float32Array, { rank, from, to, factor, rowOf }: LayOutOptions): LoraLayer {
  const groups = Math.ceil(rank / loraGroup)
  const laidDown = new Float32Array(groups * from * loraGroup)
  const laidUp = new Float32Array(groups * loraGroup * to)
  for (let at = 0; at < rank; at++) {
    const column = Math.floor(at / loraGroup) * from * loraGroup + (at % loraGroup)
    for (let value = 0; value < from; value++) laidDown[column + value * loraGroup] = down[at * from + value] as number
  }
  for (let row = 0; row < to; row++) {
    const stored = rowOf(row) * rank
    for (let at = 0; at < rank; at++) laidUp[at * to + row] = (up[stored + at] as number) * factor
  }
  return { groups, down: laidDown, up: laidUp }
}

function expectFloats(file: string, what: string, { dtype, shape }: StoredTensor, expected: readonly number[]): void {
  const isSame = shape.length === expected.length && shape.every((length, axis) => length === expected[axis])
  if (isSame && (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16')) return
  throw new ModelFileError(file, what, `[${expected.join(', ')}] of F32, F16 or BF16`, `[${shape.join(', ')}] of ${dtype}`)
}

async function readConfig(file: string, metadata: Readonly<Record<string, unknown>>): Promise<LoraConfig> {
  const said = metadata['lora_adapter_metadata']
  if (typeof said === 'string') {
    const config: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(parseJson(file, said))) config[name.replace(/^transformer\./, '')] = value
    const parsed = configSchema.safeParse(config)
    if (!parsed.success) throw new ModelFileError(file, 'lora_adapter_metadata', "peft's settings of a LoRA", said.slice(0, 80))
    return parsed.data
  }
  const beside = join(dirname(file), 'adapter_config.json')
  return basename(file) === 'adapter_model.safetensors' && existsSync(beside) ? readModelJson(beside, configSchema) : {}
}

function parseJson(file: string, text: string): object {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch {
    // Reported below.
  }
  throw new ModelFileError(file, 'lora_adapter_metadata', 'a JSON object', text.slice(0, 80))
}

/**
 * peft's patterns are regular expressions for the name of a layer or for its end. Only those that are names are accepted, because a file is
 * untrusted and other expressions may take for ever.
 */
function configuredAlpha(file: string, { lora_alpha: alpha, alpha_pattern: patterns }: LoraConfig, layer: string): number | undefined {
  for (const [pattern, own] of Object.entries(patterns ?? {})) {
    const [, start, escaped] = /^(\^?)((?:[\w-]|\\?\.)+)\$?$/.exec(pattern) ?? []
    const expected = 'names of layers or ends of names, as other regular expressions are not supported'
    if (escaped === undefined) throw new ModelFileError(file, 'alpha_pattern', expected, JSON.stringify(pattern))
    const name = escaped.replaceAll('\\.', '.')
    if (layer === name || (start === '' && layer.endsWith(`.${name}`))) return own
  }
  return alpha ?? undefined
}
