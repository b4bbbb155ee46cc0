/**
 * Writes a model of a real model's exact shapes with random weights in bfloat16, as a diffusers folder: Stable Diffusion 3.5 medium, some 16 GB,
 * or the transformer alone of 3.5 large or of a middle size.
 *
 * Our own graphs say which tensors there are and which shapes they have, because they accept no others. That these are the real model's is confirmed
 * when torch loads the same file. Only a few MB are in memory at a time. The tokenizers are tiny-scenes', with the lengths of the real ones: with
 * random weights the content of a text does not matter, only its number of tokens.
 */
import { existsSync } from 'node:fs'
import { cp, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Checkpoint } from '../../packages/pipeline/src/graphs/checkpoint.ts'
import { plainOperators } from '../../packages/pipeline/src/graphs/operator-choices.ts'
import { writeGraph } from '../../packages/pipeline/src/graphs/write-graph.ts'
import type { GraphName } from '../../packages/pipeline/src/graphs/write-graph.ts'
import { modelsDir } from '../load/bench-model.ts'
import { configs } from './configs.ts'
import type { ModelKind } from './configs.ts'

/** The number of values from which all tensors are made, each beginning at another place. A prime, so that no two rows of a matrix are equal. */
const tileValues = 4_000_037

/** Records every tensor that a graph asks for. */
class ShapeRecorder extends Checkpoint {
  readonly shapes = new Map<string, readonly number[]>()

  constructor() {
    super('a model that is to be written', new Map())
  }

  override has(): boolean {
    return true
  }

  override tensor(name: string, shape: readonly number[]): ReturnType<Checkpoint['tensor']> {
    this.shapes.set(name, shape)
    return { file: '/', dtype: 'BF16', shape, offset: 0, length: 0, scale: 1 }
  }
}

/** Writes the model into `folder` unless it exists there already, and returns its folder. */
export async function prepareRandomModel(folder: string, kind: ModelKind): Promise<string> {
  const model = join(folder, kind)
  if (!existsSync(model)) await writeModel(model, kind, new RandomValues())
  return model
}

/** The same without values, for readers of headers only: files of full length that take no space on the disk. */
export async function prepareShapes(folder: string, kind: ModelKind): Promise<string> {
  const model = join(folder, `${kind}-shapes`)
  await writeModel(model, kind)
  return model
}

async function writeModel(model: string, kind: ModelKind, values?: RandomValues): Promise<void> {
  // It gets its own name only when it is complete.
  const draft = `${model}.draft`
  await rm(draft, { recursive: true, force: true })
  for (const [part, config] of Object.entries(configs[kind])) {
    const configFile = join(draft, part)
    await mkdir(dirname(configFile), { recursive: true })
    await writeFile(configFile, JSON.stringify(config, undefined, 2))
    const weights = weightsOf[dirname(part)]
    if (weights === undefined) continue
    const recorder = new ShapeRecorder()
    const options = { operators: plainOperators, computeType: 'float32', weights: 'packed' } as const
    for (const graph of weights.graphs) await writeGraph(graph, configFile, recorder, options)
    await writeSafetensors(join(dirname(configFile), weights.file), recorder.shapes, values)
  }
  if (kind === 'sd35-medium') await copyTokenizers(draft)
  await rename(draft, model)
}

/** For each part's folder, the graphs whose tensors its file contains. */
const weightsOf: Readonly<Record<string, { readonly file: string; readonly graphs: readonly GraphName[] }>> = {
  transformer: { file: 'diffusion_pytorch_model.safetensors', graphs: ['transformer'] },
  vae: { file: 'diffusion_pytorch_model.safetensors', graphs: ['vae_decoder', 'vae_encoder'] },
  text_encoder: { file: 'model.safetensors', graphs: ['text_encoder'] },
  text_encoder_2: { file: 'model.safetensors', graphs: ['text_encoder_2'] },
  text_encoder_3: { file: 'model.safetensors', graphs: ['text_encoder_3'] },
}

async function writeSafetensors(path: string, shapes: ReadonlyMap<string, readonly number[]>, values?: RandomValues): Promise<void> {
  const header: Record<string, unknown> = {}
  let end = 0
  for (const [name, shape] of shapes) {
    const begin = end
    end += sizeOf(shape) * 2
    header[name] = { dtype: 'BF16', shape, data_offsets: [begin, end] }
  }
  const json = JSON.stringify(header)
  const text = Buffer.from(json.padEnd(Math.ceil(Buffer.byteLength(json) / 8) * 8))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(text.length))
  const file = await open(path, 'w')
  try {
    await file.writev([prefix, text])
    if (values === undefined) return await file.truncate(prefix.length + text.length + end)
    let at = 0
    for (const [name, shape] of shapes) {
      at = (at + 7919) % tileValues
      await writeTensor(file, values.of(name, shape), sizeOf(shape), at)
    }
  } finally {
    await file.close()
  }
}

async function writeTensor(file: FileHandle, values: Uint16Array, count: number, at: number): Promise<void> {
  let left = count
  for (let from = at; left > 0; from = 0) {
    const part = values.subarray(from, from + left)
    await file.write(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
    left -= part.length
  }
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1)
}

/** bfloat16 values, normally distributed or all 1, and the same every time. They are cached by their spread, of which there are few. */
class RandomValues {
  readonly normal: Float32Array
  readonly kept = new Map<number, Uint16Array>()

  constructor() {
    let state = 1
    const uniform = (): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return (state + 1) / 2 ** 32
    }
    this.normal = new Float32Array(tileValues)
    for (let at = 0; at < tileValues; at++) this.normal[at] = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  }

  /** Activations keep their magnitude from layer to layer, because the spread of weights follows from the number of inputs of each output. */
  of(name: string, shape: readonly number[]): Uint16Array {
    const isNorm = /norm.*\.weight$/.test(name)
    const spread = isNorm ? 0 : shape.length === 1 ? 0.02 : 1 / Math.sqrt(sizeOf(shape.slice(1)))
    const known = this.kept.get(spread)
    if (known !== undefined) return known
    const one = Float32Array.of(0)
    const bits = new Uint32Array(one.buffer)
    const values = new Uint16Array(tileValues)
    for (let at = 0; at < tileValues; at++) {
      one[0] = isNorm ? 1 : (this.normal[at] as number) * spread
      // The upper half of a float32.
      values[at] = (bits[0] as number) >>> 16
    }
    this.kept.set(spread, values)
    return values
  }
}

async function copyTokenizers(model: string): Promise<void> {
  for (const [name, length] of [
    ['tokenizer', 77],
    ['tokenizer_2', 77],
    ['tokenizer_3', 512],
  ] as const) {
    const folder = join(model, name)
    await cp(join(modelsDir, 'tiny-scenes', name), folder, { recursive: true })
    const file = join(folder, 'tokenizer_config.json')
    const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
    await writeFile(file, JSON.stringify({ ...config, model_max_length: length, max_length: length }))
  }
}
