/**
 * Where the parts of a model lie: in its folder, in its single file, or in a second folder that has what the first lacks.
 *
 * Invariant: a part comes from the first place that has it, and within a folder an exported graph takes precedence over weights. Exports of
 * some tools call the transformer `unet`, or leave out a config.json that another folder of the model has. Only headers are read here.
 * Knows nothing about what is inside a part. Runs in the engine process, once.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Checkpoint, findWeights, readCheckpoint } from '../graphs/checkpoint.ts'
import { assertHoldsPart, singleFilePart, toDiffusersLayout } from '../graphs/single-file.ts'
import type { GraphName } from '../graphs/write-graph.ts'
import { ModelFileError } from '../models/model-file.ts'
import { describeForeignFiles } from './describe-layout.ts'
import type { ModelContent } from './model-hash.ts'
import type { ResolvedModel } from './presets.ts'

/** A part, as found. */
export interface FoundPart {
  readonly configFile: string
  /** An exported model.onnx, or weights over which to write a graph. */
  readonly graph: string | Checkpoint
}

/** Folders that may hold the config.json of a graph which has none beside it. */
const configFolders: Partial<Record<GraphName, readonly string[]>> = {
  transformer: ['transformer', 'unet'],
  vae_decoder: ['vae_decoder', 'vae', 'vae_encoder'],
  vae_encoder: ['vae_encoder', 'vae', 'vae_decoder'],
}

export class ModelSource {
  /** In the order in which they are searched. */
  readonly folders: readonly string[]
  /** All tensors of a model that is a single file. */
  readonly file: Checkpoint | undefined
  /** The variant of weight files, as in findWeights. */
  readonly variant: string | undefined
  /** Whether a part of that variant has been found. */
  hasVariant = false
  /** The files, and folders of small files, that make up the model, by their name in it. */
  readonly taken = new Map<string, string>()

  private constructor(folders: readonly string[], file: Checkpoint | undefined, variant: string | undefined) {
    this.folders = folders
    this.file = file
    this.variant = variant
  }

  static async open({ folder, file, parts }: ResolvedModel, variant?: string): Promise<ModelSource> {
    const folders = parts === undefined ? [folder] : [folder, parts]
    const checkpoint = file === undefined ? undefined : await readCheckpoint(file)
    if (checkpoint !== undefined) assertHoldsPart(checkpoint)
    return new ModelSource(folders, checkpoint, variant)
  }

  /** The path of a file or subfolder in the first folder that has it. */
  find(name: string): string | undefined {
    const found = this.look(name)
    if (found !== undefined) this.taken.set(name, found)
    return found
  }

  /** The same, but throws an error that says where it was searched for. */
  require(name: string): string {
    const found = this.find(name)
    if (found !== undefined) return found
    throw new ModelFileError(this.folders.join(' or '), '', `${name} there`, `no such file or folder${this.hint()}`)
  }

  look(name: string): string | undefined {
    return this.folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
  }

  /** Call after all parts have been found: a variant that none of them has is probably misspelt. */
  assertVariant(): void {
    if (this.variant === undefined || this.hasVariant) return
    throw new ModelFileError(this.folders.join(' or '), '', `weights of variant ${this.variant} in at least one part`, 'none')
  }

  /**
   * What the hash of the model covers: the whole folder, or only the files that were used if the model comes from a single file or several
   * folders. `marks` as in ModelContent.
   */
  content(marks: readonly string[]): ModelContent {
    const [folder = '', ...others] = this.folders
    const isWhole = this.file === undefined && others.length === 0
    const variant = this.variant === undefined ? [] : [`variant ${this.variant}`]
    return { roots: isWhole ? new Map([['', folder]]) : this.taken, marks: [...marks, ...variant] }
  }

  hint(): string {
    return this.folders.length === 1
      ? '; MODEL_PARTS may name a diffusers folder that has it, such as one fetched by "npx easel pull REPOSITORY --no-weights"'
      : ''
  }

  async findPart(name: GraphName): Promise<FoundPart | undefined> {
    const found = await this.lookForPart(name)
    if (found === undefined) return undefined
    this.taken.set(`${name}/config.json`, found.configFile)
    if (typeof found.graph === 'string') this.taken.set(name, dirname(found.graph))
    else {
      const files = new Set([...found.graph.tensors.values()].map(({ file }) => file))
      for (const [index, file] of [...files].entries()) this.taken.set(`${name}/weights.${index}`, file)
    }
    return found
  }

  async lookForPart(name: GraphName): Promise<FoundPart | undefined> {
    const weightsFolder = name === 'vae_decoder' || name === 'vae_encoder' ? 'vae' : name
    const own = this.file && singleFilePart(this.file, weightsFolder)
    if (own !== undefined) {
      const configFile = this.require(join(weightsFolder, 'config.json'))
      const { source, tensors, shiftFirst, unprojected } = own
      return { configFile, graph: new Checkpoint(source, tensors, { shiftFirst, unprojected, configFile }) }
    }
    for (const folder of this.folders) {
      const exported = join(folder, name, 'model.onnx')
      if (existsSync(exported)) return { configFile: this.configOf(exported, name), graph: exported }
      const weights = findWeights(join(folder, weightsFolder), this.variant)
      if (weights !== undefined) {
        if (basename(weights).includes(`.${this.variant}.`)) this.hasVariant = true
        const stored = await readCheckpoint(weights)
        const graph = singleFilePart(stored, weightsFolder) ?? toDiffusersLayout(stored.source, stored.tensors, weightsFolder)
        return { configFile: this.configOf(weights, name), graph }
      }
      const unet = join(folder, 'unet', 'model.onnx')
      if (name === 'transformer' && existsSync(unet)) return { configFile: this.configOf(unet, name), graph: unet }
    }
    return undefined
  }

  /** `graph`: a graph or weights. */
  configOf(graph: string, name: GraphName): string {
    const beside = join(dirname(graph), 'config.json')
    if (existsSync(beside)) return beside
    for (const folder of configFolders[name] ?? [name]) {
      const found = this.look(join(folder, 'config.json'))
      if (found !== undefined) return found
    }
    throw new ModelFileError(beside, '', 'this file', `no such file${this.hint()}`)
  }

  async requirePart(name: GraphName): Promise<FoundPart> {
    const found = await this.findPart(name)
    if (found !== undefined) return found
    const exported = this.folders.map((folder) => join(folder, name, 'model.onnx')).join(' or ')
    const places = this.folders.map((folder) => join(folder, name === 'vae_decoder' ? 'vae' : name))
    const looked = [name, ...(configFolders[name] ?? [])].flatMap((part) => this.folders.map((folder) => join(folder, part)))
    const isFolder = (place: string) => statSync(place, { throwIfNoEntry: false })?.isDirectory() === true
    const there = [...new Set(looked)].filter(isFolder).flatMap((place) => readdirSync(place))
    const expected = `this file, or .safetensors weights in ${places.join(' or ')}`
    const off = name === 'text_encoder_3' ? ' (TEXT_ENCODER_3=off omits it)' : ''
    const misnamed = there.some((file) => file.endsWith('.safetensors'))
      ? 'weights must be named model.safetensors or diffusion_pytorch_model.safetensors'
      : undefined
    const foreign = describeForeignFiles(there) ?? misnamed
    const got = there.length === 0 ? 'nothing' : `${there.join(', ')}${foreign === undefined ? '' : `: ${foreign}`}`
    throw new ModelFileError(exported, '', `${expected}${off}`, got)
  }
}
