/**
 * The LoRAs in a folder that fit a model: finds and checks them, reads them when a call asks for them, and keeps as many as memory allows.
 *
 * A LoRA is NAME.safetensors, or a folder NAME with pytorch_lora_weights.safetensors or adapter_model.safetensors in it, as diffusers and
 * peft save them; NAME is its id. Invariant: every LoRA listed fits the model; a call gets exactly the content whose hashes it reports.
 * Knows nothing about graphs. Runs in the engine process.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { LRUCache } from 'lru-cache'
import { laidOutBytes, readLora, readLoraHeader } from '../graphs/lora-file.ts'
import { explainDenied } from '../models/explain-denied.ts'
import { ModelFileError } from '../models/model-file.ts'
import type { LoraLayer, LoraLayers, LoraTarget } from '../tensor/lora.ts'
import { GenerateParamsError } from './generate-params.ts'
import type { LoraChoice, UsedLora } from './lora-choices.ts'

interface KnownLora {
  readonly file: string
  /** Path, size, modification time and inode, which show whether it is still the same file. */
  readonly stamp: string
  readonly fits: boolean
  /** The size of its matrices as they are laid out for the graph; 0 for a LoRA that does not fit. */
  readonly bytes: number
  /** Known once the file has been asked for, because reading it takes seconds per gigabyte. */
  sha256?: Promise<string> | undefined
}

const inFolder = ['pytorch_lora_weights.safetensors', 'adapter_model.safetensors']
/** How many times a file is read that is replaced during each reading. */
const maxReadings = 3
const defaultCacheBytes = 512 * 2 ** 20

export class LoraStore {
  readonly folder: string
  readonly target: LoraTarget
  known: ReadonlyMap<string, KnownLora> = new Map()
  /** LoRAs, and combinations of them with their scales applied, by hash and scale. */
  readonly loaded: LRUCache<string, LoraLayers, () => Promise<LoraLayers>>

  /** `cacheBytes`: how many bytes of LoRAs to keep for later calls. Default 512 MiB. */
  constructor(folder: string, target: LoraTarget, cacheBytes = defaultCacheBytes) {
    this.folder = folder
    this.target = target
    this.loaded = new LRUCache({
      maxSize: Math.max(1, cacheBytes),
      sizeCalculation: bytesOf,
      fetchMethod: (_key, _stale, { context }) => context(),
    })
  }

  /** The ids of those that fit, as of the last look at the folder. */
  get ids(): string[] {
    return [...this.known].flatMap(([id, { fits }]) => (fits ? [id] : []))
  }

  /** Looks at the folder again. A file that does not fit is reported once, as a warning. */
  async refresh(): Promise<void> {
    const known = new Map<string, KnownLora>()
    for (const [id, file] of await this.findFiles()) {
      const lora = await this.look(id, file)
      if (lora !== undefined) known.set(id, lora)
    }
    this.known = known
  }

  /** The total size of the chosen LoRAs, as of the last look at the folder, without reading them. */
  bytesOf(choices: readonly LoraChoice[]): number {
    return choices.reduce((sum, { id, scale }) => sum + (scale === 0 ? 0 : (this.known.get(id)?.bytes ?? 0)), 0)
  }

  /** What the choices add together, and what was chosen; undefined when they add nothing. */
  async load(choices: readonly LoraChoice[]): Promise<{ layers: LoraLayers | undefined; used: UsedLora[] }> {
    const used: UsedLora[] = []
    const parts: { readonly layers: LoraLayers; readonly scale: number }[] = []
    for (const { id, scale } of choices) {
      const { sha256, layers } = await this.read(id, { adds: scale !== 0 })
      used.push({ id, scale, sha256 })
      if (layers !== undefined) parts.push({ layers, scale })
    }
    if (parts.length === 0) return { layers: undefined, used }
    if (parts.length === 1 && parts[0]?.scale === 1) return { layers: parts[0].layers, used }
    const key = used.map(({ sha256, scale }) => `${sha256} ${scale}`).join()
    // All calls that ask for the same get one object, so that their rows share its memory.
    return { layers: await this.fetch(key, () => Promise.resolve(combine(parts))), used }
  }

  async fetch(key: string, make: () => Promise<LoraLayers>): Promise<LoraLayers> {
    return (await this.loaded.fetch(key, { context: make })) ?? (await make())
  }

  /** The hash of a LoRA and, unless it adds nothing, just what has that hash: a file that is replaced meanwhile is read again. */
  async read(id: string, { adds }: { adds: boolean }): Promise<{ sha256: string; layers?: LoraLayers }> {
    for (let reading = 1; ; reading++) {
      const lora = await this.require(id)
      try {
        const sha256 = await (lora.sha256 ??= hashFile(lora.file))
        return adds ? { sha256, layers: await this.fetch(sha256, () => this.readSame(lora)) } : { sha256 }
      } catch (error) {
        lora.sha256 = undefined
        if (reading === maxReadings || (await stampOf(lora.file)) === lora.stamp) throw error
      }
    }
  }

  async readSame({ file, stamp }: KnownLora): Promise<LoraLayers> {
    const layers = await readLora(file, this.target)
    if ((await stampOf(file)) === stamp) return layers
    throw new ModelFileError(file, '', 'to stay the same while it is read', 'another file in its place, or one that has been written to')
  }

  async require(id: string): Promise<KnownLora> {
    const file = (await this.findFiles()).get(id)
    const lora = file === undefined ? undefined : await this.look(id, file)
    if (lora?.fits !== true) {
      const { ids } = this
      throw new GenerateParamsError('loras', `among ${ids.length === 0 ? 'none, as no LoRA fits' : ids.join(', ')}`, JSON.stringify(id))
    }
    return lora
  }

  async findFiles(): Promise<Map<string, string>> {
    const files = new Map<string, string>()
    const names = await readdir(this.folder).catch((error: unknown) => {
      const got = (error as NodeJS.ErrnoException).code ?? String(error)
      explainDenied(new ModelFileError(this.folder, '', 'a folder of LoRAs', got, { cause: error }), 'LORAS_DIR', this.folder)
    })
    for (const name of names.sort()) {
      if (name.startsWith('.')) continue
      const path = join(this.folder, name)
      if (name.endsWith('.safetensors')) files.set(name.slice(0, -'.safetensors'.length), path)
      else {
        const inside = new Set(await readdir(path).catch(() => []))
        const found = inFolder.find((file) => inside.has(file))
        if (found !== undefined) files.set(name, join(path, found))
      }
    }
    return files
  }

  /** Undefined for a file that has just been removed. */
  async look(id: string, file: string): Promise<KnownLora | undefined> {
    const stamp = await stampOf(file)
    if (stamp === undefined) return undefined
    const before = this.known.get(id)
    if (before?.stamp === stamp) return before
    let fits = true
    let bytes = 0
    try {
      bytes = laidOutBytes(await readLoraHeader(file, this.target), this.target)
    } catch (error) {
      fits = false
      process.emitWarning(`The LoRA ${id} is left out: ${error instanceof Error ? error.message : String(error)}`)
    }
    const lora: KnownLora = { file, stamp, fits, bytes }
    this.known = new Map(this.known).set(id, lora)
    return lora
  }
}

async function stampOf(file: string): Promise<string | undefined> {
  const found = await stat(file).catch(() => undefined)
  return found && `${file} ${found.size} ${found.mtimeMs} ${found.ino}`
}

async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/** Stacks the ranks of all LoRAs and multiplies each `up` by its scale. */
function combine(parts: readonly { readonly layers: LoraLayers; readonly scale: number }[]): LoraLayers {
  const combined = new Map<string, LoraLayer>()
  for (const name of new Set(parts.flatMap(({ layers }) => [...layers.keys()]))) {
    const own = parts.flatMap(({ layers, scale }) => {
      const layer = layers.get(name)
      return layer === undefined ? [] : [{ ...layer, up: scale === 1 ? layer.up : layer.up.map((value) => value * scale) }]
    })
    combined.set(name, {
      groups: own.reduce((sum, { groups }) => sum + groups, 0),
      down: join32(own.map(({ down }) => down)),
      up: join32(own.map(({ up }) => up)),
    })
  }
  return combined
}

function join32(arrays: readonly Float32Array[]): Float32Array {
  const [only] = arrays
  if (arrays.length === 1 && only !== undefined) return only
  const joined = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0))
  let end = 0
  for (const values of arrays) {
    joined.set(values, end)
    end += values.length
  }
  return joined
}

function bytesOf(layers: LoraLayers): number {
  let bytes = 1
  for (const { down, up } of layers.values()) bytes += down.byteLength + up.byteLength
  return bytes
}
