/**
 * Which files of a repository or folder the pipeline reads: for each part its configuration and one set of weights.
 *
 * Invariant: the selection is a complete model, or an error says what is missing or which layout this is. Repositories contain the same
 * weights several times (single files at the root, other precisions, ONNX beside safetensors); exactly one copy of each part is selected.
 * Knows nothing about where files come from.
 */
import { z } from 'zod'
import { sd3Pipelines } from '@easel/pipeline'
import { PullError } from './pull-error.ts'

export interface SelectOptions {
  /** Precision variant in the names of weight files, such as `fp16` in `model.fp16.safetensors`. Default: files without one, if there are any. */
  variant?: string
  /** Whether to select weights too. The other files are what a model in a single .safetensors file lacks. Default true. */
  weights?: boolean
}

const modelIndexSchema = z.looseObject({ _class_name: z.string() })

const rootFiles = /^(model_index\.json|generation_config\.json|preview_projection\.json|README\.md|LICENSE(\.\w+)?)$/
const tokenizerFiles =
  /^(tokenizer\.json|tokenizer_config\.json|vocab\.json|merges\.txt|special_tokens_map\.json|added_tokens\.json|spiece\.model)$/
const weightFile = /^(?:model|diffusion_pytorch_model)(?:\.(?<variant>\w+))?(?:-\d{5}-of-(?<shards>\d{5}))?\.safetensors$/
const indexFile = /^(?:model|diffusion_pytorch_model)\.safetensors\.index(?:\.(?<variant>\w+))?\.json$/
/** A graph, and the names that exporters give to the weights beside it. */
const onnxFile = /^(model\.onnx(_data|\.data)?|weights\.pb)$/

const vaeFolders = ['vae', 'vae_encoder', 'vae_decoder']

/** Folders that a part of model_index.json may be in. An export to ONNX splits the VAE, and that of some tools calls the transformer `unet`. */
const weightFolders: Record<string, string[]> = {
  transformer: ['transformer', 'unet'],
  unet: ['unet', 'transformer'],
  vae: vaeFolders,
  vae_encoder: vaeFolders,
  vae_decoder: vaeFolders,
  text_encoder: ['text_encoder'],
  text_encoder_2: ['text_encoder_2'],
  text_encoder_3: ['text_encoder_3'],
}

/** `name`: the model's name, for messages. `modelIndex`: the text of its model_index.json. Returns paths in the order of `paths`. */
export function selectFiles(
  paths: readonly string[],
  modelIndex: string,
  name: string,
  { variant, weights: takesWeights = true }: SelectOptions = {},
): string[] {
  const index = parseModelIndex(modelIndex, name)
  const parts = new Set(
    Object.entries(index).flatMap(([part, entry]) => (Array.isArray(entry) && typeof entry[1] === 'string' ? [part] : [])),
  )
  const selected = new Set(paths.filter((path) => rootFiles.test(path)))
  const filesIn = (folder: string): string[] =>
    paths.flatMap((path) =>
      path.startsWith(`${folder}/`) && !path.slice(folder.length + 1).includes('/') ? [path.slice(folder.length + 1)] : [],
    )
  const take = (folder: string, files: readonly string[]): void => {
    for (const file of files) selected.add(`${folder}/${file}`)
  }

  for (const part of parts) {
    if (part === 'scheduler') {
      take(
        part,
        filesIn(part).filter((file) => file === 'scheduler_config.json'),
      )
    } else if (/^tokenizer(_[23])?$/.test(part)) {
      take(
        part,
        filesIn(part).filter((file) => tokenizerFiles.test(file)),
      )
    } else if (Object.hasOwn(weightFolders, part)) {
      const folders = (weightFolders[part] ?? []).filter((folder) => filesIn(folder).length > 0)
      if (!takesWeights) {
        for (const folder of folders)
          take(
            folder,
            filesIn(folder).filter((file) => file === 'config.json'),
          )
        continue
      }
      // Weights in .safetensors and their ONNX copy are the same part.
      const own =
        folders.includes(part) && selectWeights(filesIn(part), variant).length > 0 ? [part] : folders.filter((folder) => folder !== part)
      const found = own.length > 0 ? own : folders
      for (const folder of found) {
        const weights = selectWeights(filesIn(folder), variant)
        if (weights.length === 0)
          throw new PullError(`${name} has no weights that Easel reads in ${folder}/: ${describeWeights(filesIn(folder))}.`)
        take(folder, weights)
        // If a graph has no config.json beside it, the file is in another of the part's folders.
        const described = filesIn(folder).includes('config.json')
          ? [folder]
          : folders.filter((other) => filesIn(other).includes('config.json'))
        for (const other of described) take(other, ['config.json'])
      }
      if (found.length === 0) throw new PullError(`${name} names ${part} in its model_index.json but has no folder ${part}/.`)
    }
  }
  return paths.filter((path) => selected.has(path))
}

function parseModelIndex(text: string, name: string): Record<string, unknown> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new PullError(`The model_index.json of ${name} is not JSON.`)
  }
  const index = modelIndexSchema.safeParse(json)
  if (!index.success) throw new PullError(`The model_index.json of ${name} names no _class_name.`)
  const className = index.data._class_name
  if (!sd3Pipelines.includes(className))
    throw new PullError(`Expected ${name} to be a StableDiffusion3Pipeline, the one that Easel runs, got a ${className}.`)
  return index.data
}

/** One complete set of weights in a folder, all of one variant. Empty where there is none. */
function selectWeights(files: readonly string[], wanted: string | undefined): string[] {
  const variantOf = (file: string): string | undefined => {
    const match = weightFile.exec(file) ?? indexFile.exec(file)
    return match === null ? undefined : (match.groups?.['variant'] ?? '')
  }
  const weights = files.filter((file) => weightFile.test(file))
  const variants = [...new Set(weights.flatMap((file) => variantOf(file) ?? []))]
  const variant = [wanted, '', 'fp16', ...variants].find((candidate) => candidate !== undefined && variants.includes(candidate))
  if (variant === undefined) return files.some((file) => file === 'model.onnx') ? files.filter((file) => onnxFile.test(file)) : []
  const ofVariant = files.filter((file) => variantOf(file) === variant)
  const isShard = (file: string): boolean => weightFile.exec(file)?.groups?.['shards'] !== undefined
  const whole = ofVariant.filter((file) => weightFile.test(file) && !isShard(file))
  if (whole.length === 0) return ofVariant
  // A folder may contain the weights both as one file and in shards; findWeights says which of them are read.
  const readsShards = ofVariant.some(isShard) && whole.every((file) => file.startsWith('diffusion_pytorch_model.'))
  return readsShards ? ofVariant.filter((file) => !whole.includes(file)) : whole
}

function describeWeights(files: readonly string[]): string {
  if (files.some((file) => file.endsWith('.bin'))) return 'only .bin files, which can run code when they are opened'
  if (files.some((file) => file.endsWith('.msgpack'))) return 'only .msgpack files'
  return files.length === 0 ? 'nothing' : `only ${files.join(', ')}`
}
