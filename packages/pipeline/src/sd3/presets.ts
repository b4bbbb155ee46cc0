/**
 * Names of models: the presets with their recommended settings, and where a name is on disk.
 *
 * Invariant: never downloads; a model that is not there is an error that says how to get it.
 * Knows nothing about what is inside a folder except that model_index.json makes it a model.
 */
import { existsSync, readdirSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'

export interface Preset {
  /** Folder under the models directory. */
  readonly folder: string
  /** Repository the export starts from, in diffusers layout. */
  readonly repository: string
  readonly numInferenceSteps: number
  readonly guidanceScale: number
  /** Size of a float32 export on disk, approximate, in GB (10^9 bytes). */
  readonly sizeGb: number
}

/** Steps and guidance are those of the model cards. */
export const presets = {
  'stabilityai/stable-diffusion-3-medium': {
    folder: 'stable-diffusion-3-medium',
    repository: 'stabilityai/stable-diffusion-3-medium-diffusers',
    numInferenceSteps: 28,
    guidanceScale: 7,
    sizeGb: 31,
  },
  'stabilityai/stable-diffusion-3.5-large': {
    folder: 'stable-diffusion-3.5-large',
    repository: 'stabilityai/stable-diffusion-3.5-large',
    numInferenceSteps: 28,
    guidanceScale: 3.5,
    sizeGb: 55,
  },
  'stabilityai/stable-diffusion-3.5-large-turbo': {
    folder: 'stable-diffusion-3.5-large-turbo',
    repository: 'stabilityai/stable-diffusion-3.5-large-turbo',
    numInferenceSteps: 4,
    guidanceScale: 0,
    sizeGb: 55,
  },
  'stabilityai/stable-diffusion-3.5-medium': {
    folder: 'stable-diffusion-3.5-medium',
    repository: 'stabilityai/stable-diffusion-3.5-medium',
    numInferenceSteps: 40,
    guidanceScale: 4.5,
    sizeGb: 33,
  },
} as const satisfies Readonly<Record<string, Preset>>

export type PresetName = keyof typeof presets

export interface ResolvedModel {
  /** Preset name, or the folder's base name. */
  readonly id: string
  /** Absolute path. */
  readonly folder: string
  /** Recommended settings; undefined for a folder that is no preset. */
  readonly preset: Preset | undefined
}

/** No model of that name is on disk. */
export class ModelNotFoundError extends Error {
  override readonly name = 'ModelNotFoundError'
}

/** `model`: a preset name, the path of a model folder, or the name of a folder in `modelsDir` (default "models"). */
export function resolveModel(model: string, modelsDir = 'models'): ResolvedModel {
  if (typeof model !== 'string' || model.trim() === '')
    throw new ModelNotFoundError(
      `Expected a model: a preset name, a folder, or a name in the models directory, got ${typeof model === 'string' ? 'nothing' : typeof model}`,
    )
  const preset = presets[model as PresetName] as Preset | undefined
  if (preset !== undefined && Object.hasOwn(presets, model)) {
    const folder = resolve(modelsDir, preset.folder)
    if (isModel(folder)) return { id: model, folder, preset }
    throw new ModelNotFoundError(`Expected model ${model} in ${folder}, got no model_index.json there. ${howToGet(preset, folder)}`)
  }
  for (const folder of [resolve(model), resolve(modelsDir, model)]) {
    if (!isModel(folder)) continue
    const name = basename(folder)
    const known = Object.entries(presets).find(([, { folder }]) => folder === name)
    return { id: known?.[0] ?? name, folder, preset: known?.[1] }
  }
  throw new ModelNotFoundError(
    `Expected model "${model}" to be a preset (${Object.keys(presets).join(', ')}), a folder with model_index.json, ` +
      `or the name of one in ${resolve(modelsDir)} (${modelsIn(modelsDir).join(', ')}), got none of these`,
  )
}

function howToGet(preset: Preset, folder: string): string {
  return (
    `To get it: accept the licence at https://huggingface.co/${preset.repository}, log in with "hf auth login", ` +
    `install "optimum-onnx[onnxruntime]" and diffusers for Python, then run ` +
    `"optimum-cli export onnx --model ${preset.repository} ${folder}" ` +
    `(about ${preset.sizeGb} GB on disk in float32, half of it with "--dtype fp16 --device cuda", and as much memory while it runs).`
  )
}

function isModel(folder: string): boolean {
  return existsSync(join(folder, 'model_index.json'))
}

function modelsIn(modelsDir: string): string[] {
  if (!existsSync(modelsDir)) return ['which is not there']
  const names = readdirSync(modelsDir).filter((name) => isModel(join(modelsDir, name)))
  return names.length > 0 ? names.sort() : ['which has none']
}
