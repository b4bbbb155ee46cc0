/**
 * Names of models: the presets with their recommended settings, and where to find a name on disk.
 *
 * Invariant: never downloads anything; for a model that is not on disk the error says how to get it.
 * Knows nothing about what is inside a folder except that a model_index.json makes it a model.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { explainDenied } from '../models/explain-denied.ts'
import { describeUnknownLayout } from './describe-layout.ts'

export interface Preset {
  /** The folder under the models directory. */
  readonly folder: string
  /** The repository it comes from, in diffusers layout. */
  readonly repository: string
  readonly numInferenceSteps: number
  readonly guidanceScale: number
  /** The approximate size on disk of the parts that are loaded, in GB (10^9 bytes). */
  readonly sizeGb: number
}

/** Steps and guidance are taken from the model cards. */
export const presets = {
  'stabilityai/stable-diffusion-3-medium': {
    folder: 'stable-diffusion-3-medium',
    repository: 'stabilityai/stable-diffusion-3-medium-diffusers',
    numInferenceSteps: 28,
    guidanceScale: 7,
    sizeGb: 16,
  },
  'stabilityai/stable-diffusion-3.5-large': {
    folder: 'stable-diffusion-3.5-large',
    repository: 'stabilityai/stable-diffusion-3.5-large',
    numInferenceSteps: 28,
    guidanceScale: 3.5,
    sizeGb: 28,
  },
  'stabilityai/stable-diffusion-3.5-large-turbo': {
    folder: 'stable-diffusion-3.5-large-turbo',
    repository: 'stabilityai/stable-diffusion-3.5-large-turbo',
    numInferenceSteps: 4,
    guidanceScale: 0,
    sizeGb: 28,
  },
  'stabilityai/stable-diffusion-3.5-medium': {
    folder: 'stable-diffusion-3.5-medium',
    repository: 'stabilityai/stable-diffusion-3.5-medium',
    numInferenceSteps: 40,
    guidanceScale: 4.5,
    sizeGb: 16,
  },
} as const satisfies Readonly<Record<string, Preset>>

export type PresetName = keyof typeof presets

export interface ResolvedModel {
  /** The preset's name; for a folder in Hugging Face's cache, the repository's; else the name of the folder, or of the file without its ending. */
  readonly id: string
  /** The absolute path; for a model that is a single file, the folder that contains it. */
  readonly folder: string
  /** The file, for a model that is a single .safetensors file. */
  readonly file?: string | undefined
  /** A diffusers folder with the parts that the model lacks. */
  readonly parts?: string | undefined
  /** The recommended settings; undefined for a folder that is not a preset. */
  readonly preset: Preset | undefined
}

/** There is no model of that name on disk. */
export class ModelNotFoundError extends Error {
  override readonly name = 'ModelNotFoundError'
}

export interface ResolveModelOptions {
  /** Default 'models'. */
  readonly modelsDir?: string | undefined
  /** A diffusers folder for the parts that the model lacks, given in the same way as a model. Default none. */
  readonly modelParts?: string | undefined
}

/** `model`: a preset name, the path of a model folder or of a .safetensors file, or the name of one in `modelsDir`. */
export function resolveModel(model: string, { modelsDir = 'models', modelParts }: ResolveModelOptions = {}): ResolvedModel {
  const resolved = resolveReadable('MODEL', model, modelsDir)
  if (modelParts === undefined) return resolved
  const parts = resolveReadable('MODEL_PARTS', modelParts, modelsDir)
  return { ...resolved, parts: parts.folder, preset: resolved.preset ?? parts.preset }
}

function resolveReadable(variable: string, model: string, modelsDir: string): ResolvedModel {
  try {
    return resolveName(model, modelsDir)
  } catch (error) {
    return explainDenied(error, variable, model)
  }
}

function resolveName(model: string, modelsDir: string): ResolvedModel {
  if (typeof model !== 'string' || model.trim() === '')
    throw new ModelNotFoundError(
      `Expected a model: a preset name, a folder, or a name in the models directory, got ${typeof model === 'string' ? 'nothing' : typeof model}`,
    )
  const preset = presets[model as PresetName] as Preset | undefined
  if (preset !== undefined && Object.hasOwn(presets, model)) {
    const path = resolve(modelsDir, preset.folder)
    const place = placeOf(path)
    if (place !== undefined) return { ...place, id: model, preset }
    assertNotClosed(path)
    throw new ModelNotFoundError(`Expected model ${model} in ${path}, got no model_index.json there. ${howToGet(model, preset)}`)
  }
  for (const path of [resolve(model), resolve(modelsDir, model), resolve(modelsDir, `${model}.safetensors`)]) {
    const place = placeOf(path)
    if (place === undefined) continue
    const name = place.file === undefined ? (repositoryOf(place.folder) ?? basename(path)) : basename(path, '.safetensors')
    const known = Object.entries(presets).find(([id, { folder }]) => folder === name || id === name)
    return { ...place, id: known?.[0] ?? name, preset: known?.[1] }
  }
  const paths = [resolve(model), resolve(modelsDir, model)]
  paths.forEach(assertNotClosed)
  const there = paths.find((path) => existsSync(path))
  if (there !== undefined)
    throw new ModelNotFoundError(`Expected ${there} to be a model that Easel runs, but ${describeUnknownLayout(filesOf(there))}.`)
  throw new ModelNotFoundError(
    `Expected model "${model}" to be a preset (${Object.keys(presets).join(', ')}), a folder with model_index.json, a .safetensors file, ` +
      `or the name of one in ${resolve(modelsDir)} (${modelsIn(modelsDir).join(', ')}), got none of these` +
      (/^[\w.-]+\/[\w.@-]+$/.test(model)
        ? `. If it is a repository of the hub: "npx easel pull ${model}" fetches it; with AUTO_PULL=true a worker does.`
        : ''),
  )
}

/** The model at a path: a folder, one of Hugging Face's cache included, or a single file. */
function placeOf(path: string): Pick<ResolvedModel, 'folder' | 'file'> | undefined {
  if (path.endsWith('.safetensors'))
    return statSync(path, { throwIfNoEntry: false })?.isFile() ? { folder: dirname(path), file: path } : undefined
  if (existsSync(join(path, 'model_index.json'))) return { folder: path }
  const main = join(path, 'refs', 'main')
  if (!existsSync(main)) return undefined
  const snapshot = join(path, 'snapshots', readFileSync(main, 'utf8').trim())
  return existsSync(join(snapshot, 'model_index.json')) ? { folder: snapshot } : undefined
}

/** For `existsSync` there is nothing in a folder that this process may not enter; here it is an error. */
function assertNotClosed(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) accessSync(path, constants.R_OK | constants.X_OK)
}

/** Enough to recognise a layout. Without limits the search might not end soon, because a folder that is not a model may be of any size. */
const lookDepth = 4
const lookFiles = 1000

/** Some of the files at a path, by their paths relative to it. */
function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [basename(path)]
  const files: string[] = []
  const walk = (folder: string, depth: number): void => {
    for (const entry of readdirSync(join(path, folder), { withFileTypes: true })) {
      if (files.length >= lookFiles) return
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (!entry.isDirectory()) files.push(name)
      else if (depth < lookDepth) walk(name, depth + 1)
    }
  }
  walk('', 1)
  return files
}

/** 'owner/name' of a snapshot in Hugging Face's cache, models--owner--name/snapshots/REVISION. */
function repositoryOf(folder: string): string | undefined {
  return /models--([^/]+)\/snapshots\/[^/]+$/.exec(folder)?.[1]?.replace('--', '/')
}

function howToGet(model: string, { repository, sizeGb }: Preset): string {
  return (
    `To get it: accept the licence at https://huggingface.co/${repository}, log in with "hf auth login" or set HF_TOKEN, ` +
    `then run "npx easel pull ${model}" (about ${sizeGb} GB); with AUTO_PULL=true a worker pulls it itself.`
  )
}

function modelsIn(modelsDir: string): string[] {
  if (!existsSync(modelsDir)) return ['which does not exist']
  const names = readdirSync(modelsDir).filter((name) => placeOf(join(modelsDir, name)) !== undefined)
  return names.length > 0 ? names.sort() : ['which holds none']
}
