/**
 * Prepares the graphs of a model for loading: exported ones by their path, the others written over their weights.
 *
 * Decides the precision of each graph and how the runtime holds its weights. Invariant: all parts have been found and checked before any is
 * loaded. Runs in the engine process, once.
 */
import { readdirSync, statSync } from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import type { Checkpoint } from '../graphs/checkpoint.ts'
import type { ComputeType } from '../graphs/graph-builder.ts'
import type { GraphOptions } from '../graphs/layers.ts'
import { operatorChoices } from '../graphs/operator-choices.ts'
import type { OperatorChoices } from '../graphs/operator-choices.ts'
import { writeGraph } from '../graphs/write-graph.ts'
import type { GraphName } from '../graphs/write-graph.ts'
import { checkOperators } from '../graphs/check-operators.ts'
import { LoadedFiles } from '../models/loaded-files.ts'
import type { LoraGraphSource, ModelPart } from '../models/model-part.ts'
import type { ExecutionProvider } from '../models/onnx-runtime.ts'
import type { OnnxSessionOptions, WeightMode } from '../models/session-options.ts'
import type { FoundPart, ModelSource } from './model-source.ts'

export interface GraphSettings {
  readonly provider: ExecutionProvider
  /** Precision of the transformer and the text encoders. Default: float16 on GPUs that are known to have it, else float32. */
  readonly dtype?: ComputeType | undefined
  /** 'auto' maps weights where packed copies would not fit into memory. Default 'auto'. */
  readonly weights?: WeightMode | 'auto' | undefined
  /** How many bytes the process may take. Default: all that the machine has. */
  readonly memoryLimitBytes?: number | undefined
  readonly threads: number
}

/** How a model's graphs came about, for logs and receipts. */
export interface GraphOrigin {
  readonly weights: WeightMode
  /** Why the weights are held like this. */
  readonly reason: string
  /** For each graph 'onnx' if it was exported, otherwise a description such as 'easel float32 mapped'. */
  readonly graphs: Readonly<Partial<Record<GraphName, string>>>
}

const halfProviders: ReadonlySet<ExecutionProvider> = new Set(['cuda', 'tensorrt', 'dml'])
/** Packed weights are float32 on the CPU. The share leaves room for temporary copies and for the memory of the steps. */
const packedValueBytes = 4
const packedShare = 1.5

export async function prepareGraphs(
  source: ModelSource,
  names: readonly GraphName[],
  settings: GraphSettings,
  session: OnnxSessionOptions = {},
): Promise<{ parts: Map<GraphName, ModelPart>; origin: GraphOrigin; files: LoadedFiles }> {
  const found = new Map<GraphName, FoundPart>()
  for (const name of names) found.set(name, await source.requirePart(name))
  const encoder = await source.findPart('vae_encoder')
  if (encoder !== undefined) found.set('vae_encoder', encoder)
  source.assertVariant()

  const { weights, reason } = chooseWeights(found, settings)
  const files = await LoadedFiles.of([...found.values()].flatMap(filesOf))
  const parts = new Map<GraphName, ModelPart>()
  const operators = new Map<ComputeType, OperatorChoices>()
  const graphs: Partial<Record<GraphName, string>> = {}
  for (const [name, { configFile, graph }] of found) {
    if (typeof graph === 'string') {
      parts.set(name, { configFile, graph })
      graphs[name] = 'onnx'
      continue
    }
    const isVae = name === 'vae_decoder' || name === 'vae_encoder'
    // The VAE of Stable Diffusion 3 overflows in float16. It is small, and its convolutions gain most from being packed.
    const computeType = isVae ? 'float32' : (settings.dtype ?? (halfProviders.has(settings.provider) ? 'float16' : 'float32'))
    const held = isVae ? 'packed' : weights
    const checked = operators.get(computeType) ?? (await checkOperators(operatorChoices[settings.provider], computeType, session))
    operators.set(computeType, checked)
    const own = await LoadedFiles.of(filesOf({ configFile, graph }))
    const options = { operators: checked, computeType, weights: held, threads: settings.threads }
    const bytes = await writeGraph(name, configFile, graph, options)
    // Where memory is short, only the transformer, which every step needs, stays open. The other parts take far longer to run than to open.
    const betweenRuns = weights === 'mapped' && name !== 'transformer' ? 'closed' : 'open'
    const part: ModelPart = { configFile, graph: { name: graph.source, bytes, weights: held, files: own, betweenRuns } }
    parts.set(
      name,
      name === 'transformer' ? { ...part, lora: loraGraphSource(part.configFile, graph, options, own, settings.provider) } : part,
    )
    graphs[name] = `easel ${computeType} ${held}`
  }
  return { parts, origin: { weights, reason, graphs }, files }
}

/**
 * On the CPU the second graph reads the weights where they lie, because it is loaded while requests wait and a second packed copy would take
 * as much memory as the model.
 */
function loraGraphSource(
  configFile: string,
  checkpoint: Checkpoint,
  options: GraphOptions,
  files: LoadedFiles,
  provider: ExecutionProvider,
): LoraGraphSource {
  const weights = provider === 'cpu' ? 'mapped' : 'packed'
  return {
    shapes: checkpoint.linears,
    shiftFirst: checkpoint.shiftFirst,
    async write(loraLinears) {
      const bytes = await writeGraph('transformer', configFile, checkpoint, { ...options, weights, loraLinears })
      return { name: checkpoint.source, bytes, weights, files, betweenRuns: 'open' }
    },
  }
}

function chooseWeights(found: ReadonlyMap<GraphName, FoundPart>, settings: GraphSettings): Pick<GraphOrigin, 'weights' | 'reason'> {
  const { provider, weights = 'auto', memoryLimitBytes = Infinity } = settings
  if (provider !== 'cpu') return { weights: 'packed', reason: `on ${provider} the weights are in the memory of the device` }
  if (weights !== 'auto') return { weights, reason: 'asked for' }
  let bytes = 0
  for (const { graph } of found.values()) bytes += typeof graph === 'string' ? bytesOf(graph) : packedBytes(graph.tensors.values())
  const needed = Math.ceil((bytes * packedShare) / 2 ** 20)
  // All memory of the machine, not what is free now, so that a worker holds its weights in the same way after every start.
  const there = Math.floor(Math.min(memoryLimitBytes, process.constrainedMemory() || Infinity, totalmem()) / 2 ** 20)
  const reason = `packed copies and working memory need ${needed} MiB, and ${there} MiB are available`
  return { weights: needed <= there ? 'packed' : 'mapped', reason }
}

function packedBytes(tensors: Iterable<{ readonly shape: readonly number[] }>): number {
  let values = 0
  for (const { shape } of tensors) values += shape.reduce((product, length) => product * length, 1)
  return values * packedValueBytes
}

/** The files that hold the weights of a part; for an exported graph those beside it. */
function filesOf({ graph }: FoundPart): string[] {
  if (typeof graph !== 'string') return [...new Set([...graph.tensors.values()].map(({ file }) => file))]
  const beside = readdirSync(dirname(graph)).map((name) => join(dirname(graph), name))
  return beside.filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile() === true)
}

/** The size in bytes of an exported graph together with the data beside it. */
function bytesOf(graph: string): number {
  const folder = dirname(graph)
  return readdirSync(folder).reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0)
}
