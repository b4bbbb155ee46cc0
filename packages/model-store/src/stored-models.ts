/**
 * The models in the models directory: which there are, where they came from, whether they are complete, and how to remove one.
 *
 * Invariant: only what lies in that directory is ever removed, and never the model that comes with Easel. Knows nothing about loading.
 */
import { existsSync } from 'node:fs'
import { open, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve, sep } from 'node:path'
import { defaultModel } from '@easel/contract'
import { listFolder, toSourcePath } from './local-source.ts'
import { readPullRecord } from './model-record.ts'
import { parseModelName } from './model-name.ts'
import { PullError } from './pull-error.ts'
import { pullsFolder, toStagingFolder } from './pull-model.ts'
import { selectFiles } from './select-files.ts'

export interface StoredModel {
  /** The value for `MODEL`: the path under the models directory. */
  name: string
  /** Absolute. */
  path: string
  bytes: number
  /** The dtype of the transformer's weights: `float32`, `float16`, `bfloat16`, `onnx`, or `unknown`. */
  dtype: string
  /** The address and version, or the path, from which it was pulled; undefined if it was not pulled. */
  origin: string | undefined
  /** `parts`: pulled without weights, for `MODEL_PARTS`; `partial`: a pull has begun and can be continued. */
  state: 'whole' | 'parts' | 'incomplete' | 'partial'
  /** What is wrong with a model that is not complete. */
  problem: string | undefined
}

const dtypes: Record<string, string> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F8_E4M3: 'float8', F8_E5M2: 'float8' }
const weightFile = /\.(safetensors|onnx)$/
/** The longest header of a safetensors file that is read to find its dtype. */
const maxHeaderBytes = 100_000_000

/** Sorted by name. */
export async function listModels(modelsDir: string): Promise<StoredModel[]> {
  const models = await Promise.all((await findModels(modelsDir)).map(async (path) => await describeModel(modelsDir, path)))
  const partial = await Promise.all((await findPartial(modelsDir)).map(async (path) => await describePartial(path)))
  return [...models, ...partial].sort((a, b) => a.name.localeCompare(b.name))
}

/** Removes the model, or what a pull has left of it. `name` as in `listModels`, or as it was pulled. Returns the number of bytes freed. */
export async function removeModel(modelsDir: string, name: string): Promise<number> {
  const folder = toFolder(name)
  const path = resolve(modelsDir, folder)
  const inside = relative(resolve(modelsDir), path)
  if (inside === '' || inside.startsWith('..') || inside.startsWith('.'))
    throw new PullError(`Expected the name of a model in ${modelsDir}, got "${name}".`)
  if (inside === defaultModel) throw new PullError(`${defaultModel} comes with Easel and stays.`)
  const found = [path, toStagingFolder(modelsDir, folder)].filter((candidate) => existsSync(candidate))
  if (found.length === 0) {
    const names = (await listModels(modelsDir)).map((model) => model.name)
    throw new PullError(`There is no model "${name}" in ${modelsDir}; there are ${names.length === 0 ? 'none' : names.join(', ')}.`)
  }
  let bytes = 0
  for (const target of found) {
    bytes += await sizeOf(target)
    await rm(target, { recursive: true, force: true })
  }
  // Also removes the owner's folder if this was its last model.
  if (dirname(path) !== resolve(modelsDir)) await rmdir(dirname(path)).catch(() => {})
  return bytes
}

function toFolder(name: string): string {
  try {
    return parseModelName(name, '/nowhere').folder
  } catch {
    return name
  }
}

/** Folders with a model_index.json, at most two deep, and single files. */
async function findModels(modelsDir: string): Promise<string[]> {
  const found: string[] = []
  const look = async (folder: string, depth: number): Promise<void> => {
    const names = (await readdir(folder).catch(() => [])).filter((name) => !name.startsWith('.'))
    await Promise.all(
      names.map(async (name) => {
        const path = join(folder, name)
        const entry = await stat(path).catch(() => undefined)
        if (entry?.isFile() === true && name.endsWith('.safetensors') && depth === 0) found.push(path)
        if (entry?.isDirectory() !== true) return
        if (existsSync(join(path, 'model_index.json'))) found.push(path)
        else if (depth === 0) await look(path, 1)
      }),
    )
  }
  await look(modelsDir, 0)
  return found
}

async function findPartial(modelsDir: string): Promise<string[]> {
  const folder = join(modelsDir, pullsFolder)
  const names = await readdir(folder).catch(() => [])
  return names.filter((name) => !name.endsWith('.lock') && !name.endsWith('.old')).map((name) => join(folder, name))
}

async function describeModel(modelsDir: string, path: string): Promise<StoredModel> {
  const name = relative(modelsDir, path).split(sep).join('/')
  const bytes = await sizeOf(path)
  if (path.endsWith('.safetensors')) {
    const dtype = await readDtype(path)
    return { name, path, bytes, dtype, origin: undefined, state: 'whole', problem: undefined }
  }
  const problem = await findProblem(path)
  const origin = (await readPullRecord(path))?.origin
  const dtype = await readFolderDtype(path)
  const hasWeights = (await listFolder(path)).some((file) => weightFile.test(file))
  const state = problem !== undefined ? 'incomplete' : hasWeights ? 'whole' : 'parts'
  return { name, path, bytes, dtype, origin, state, problem }
}

async function describePartial(path: string): Promise<StoredModel> {
  const record = await readPullRecord(path)
  const name = basename(path).replace('--', '/')
  const problem = `its pull was not finished; "easel pull ${name}" continues it`
  return { name, path, bytes: await sizeOf(path), dtype: 'unknown', origin: record?.origin, state: 'partial', problem }
}

/** What is missing according to the record of the pull or, without one, to the model's own index. */
async function findProblem(folder: string): Promise<string | undefined> {
  const record = await readPullRecord(folder)
  for (const [path, { size }] of Object.entries(record?.files ?? {})) {
    const found = await stat(join(folder, path)).catch(() => undefined)
    if (found === undefined) return `${path} is missing`
    if (found.size !== size) return `${path} has ${found.size} bytes instead of ${size}`
  }
  if (record !== undefined) return undefined
  try {
    const paths = (await listFolder(folder)).map((path) => toSourcePath(folder, path))
    if (!paths.includes('model_index.json')) return 'its model_index.json is not a file'
    selectFiles(paths, await readFile(join(folder, 'model_index.json'), 'utf8'), 'it')
    return await findMissingShard(folder, paths)
  } catch (error) {
    return (error as Error).message
  }
}

async function findMissingShard(folder: string, paths: readonly string[]): Promise<string | undefined> {
  for (const index of paths.filter((path) => /\.safetensors\.index(\.[\w-]+)?\.json$/.test(path))) {
    const { weight_map: map = {} } = JSON.parse(await readFile(join(folder, index), 'utf8')) as { weight_map?: Record<string, string> }
    const missing = Object.values(map).find((shard) => !paths.includes(`${dirname(index)}/${shard}`))
    if (missing !== undefined) return `${dirname(index)}/${missing} is missing`
  }
  return undefined
}

async function readFolderDtype(folder: string): Promise<string> {
  const names = await readdir(join(folder, 'transformer')).catch((): string[] => [])
  if (names.includes('model.onnx') || existsSync(join(folder, 'unet', 'model.onnx'))) return 'onnx'
  const weights = names.find((name) => name.endsWith('.safetensors'))
  return weights === undefined ? 'unknown' : await readDtype(join(folder, 'transformer', weights))
}

/** The dtype of most elements in a safetensors file, from its header. */
async function readDtype(path: string): Promise<string> {
  if ((await stat(path).catch(() => undefined))?.isFile() !== true) return 'unknown'
  const file = await open(path)
  try {
    const length = Number((await file.read(Buffer.alloc(8), 0, 8, 0)).buffer.readBigUInt64LE())
    if (length > maxHeaderBytes) return 'unknown'
    const header = JSON.parse((await file.read(Buffer.alloc(length), 0, length, 8)).buffer.toString()) as Record<
      string,
      { dtype?: string; shape?: number[] }
    >
    const counts = new Map<string, number>()
    for (const { dtype, shape } of Object.values(header)) {
      if (dtype === undefined || shape === undefined) continue
      counts.set(dtype, (counts.get(dtype) ?? 0) + shape.reduce((product, side) => product * side, 1))
    }
    const [most] = [...counts].sort(([, a], [, b]) => b - a)
    return most === undefined ? 'unknown' : (dtypes[most[0]] ?? most[0].toLowerCase())
  } catch {
    return 'unknown'
  } finally {
    await file.close()
  }
}

async function sizeOf(path: string): Promise<number> {
  const paths = (await stat(path)).isDirectory() ? await listFolder(path) : [path]
  const sizes = await Promise.all(paths.map(async (file) => (await stat(file)).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}
