/**
 * A process that runs one transformer alone and prints what it took, as one line of JSON: `node forward.ts '{"folder": …}'`. It is a process of its
 * own so that all the memory it takes belongs to the transformer.
 */
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { findWeights, readCheckpoint } from '../../packages/pipeline/src/graphs/checkpoint.ts'
import type { ComputeType } from '../../packages/pipeline/src/graphs/graph-builder.ts'
import { operatorChoices, plainOperators } from '../../packages/pipeline/src/graphs/operator-choices.ts'
import { writeGraph } from '../../packages/pipeline/src/graphs/write-graph.ts'
import { checkOperators } from '../../packages/pipeline/src/graphs/check-operators.ts'
import { defaultCpuThreads } from '../../packages/pipeline/src/models/cpu-threads.ts'
import type { ExecutionProvider } from '../../packages/pipeline/src/models/onnx-runtime.ts'
import type { WeightMode } from '../../packages/pipeline/src/models/session-options.ts'
import { Sd3Transformer } from '../../packages/pipeline/src/models/sd3-transformer.ts'
import { transformerFeeds } from '../load/raw-session.ts'
import { countOperations } from './arithmetic.ts'
import type { TransformerSize } from './arithmetic.ts'

export interface ForwardRequest {
  /** The folder of the model whose transformer is run. */
  readonly folder: string
  readonly weights: WeightMode
  readonly operators: 'chosen' | 'plain'
  /** Default 'cpu'. */
  readonly device?: ExecutionProvider
  /** Default 'float32'. */
  readonly computeType?: ComputeType
  /** Pixels. */
  readonly side: number
  readonly rows: number
  readonly tokens: number
  /** The number of runs that count; one more before them does not. */
  readonly runs: number
}

export interface ForwardReport {
  /** Milliseconds that it took to write the graph, including reading the weights' headers, and to load it. */
  readonly writeMs: number
  readonly loadMs: number
  /** The time of each run, and its processor time on all threads, in milliseconds. */
  readonly runMs: readonly number[]
  readonly cpuMs: readonly number[]
  /** The maxima in MiB: the process's own memory, and pages of the file. */
  readonly ownMib: number
  readonly mappedMib: number
  readonly size: TransformerSize
  /** The floating-point operations of a run. */
  readonly operations: number
  /** Whether every value of the result is a number. */
  readonly finite: boolean
}

const latentScale = 8
const sampleMs = 20

const request = JSON.parse(process.argv[2] ?? '') as ForwardRequest
console.log(JSON.stringify(await runForward(request)))
process.exit(0)

async function runForward({
  folder,
  weights,
  operators,
  device = 'cpu',
  computeType = 'float32',
  side,
  rows,
  tokens,
  runs,
}: ForwardRequest): Promise<ForwardReport> {
  const configFile = join(folder, 'transformer', 'config.json')
  const threads = defaultCpuThreads()
  const begun = performance.now()
  const checkpoint = await readCheckpoint(findWeights(join(folder, 'transformer')) ?? '')
  const choices = operators === 'plain' ? plainOperators : await checkOperators(operatorChoices[device], computeType, { provider: device })
  const bytes = await writeGraph('transformer', configFile, checkpoint, { operators: choices, computeType, weights, threads })
  const written = performance.now()
  const graph = { name: checkpoint.source, bytes, weights, betweenRuns: 'open' } as const
  const transformer = await Sd3Transformer.load({ configFile, graph }, { provider: device, intraOpNumThreads: threads })
  const loaded = performance.now()
  const feeds = transformerFeeds(transformer, { rows, latentSide: side / latentScale, tokens })
  const { native } = transformer.session
  if (native === undefined) throw new Error('Expected an open session, got a closed one')
  const watch = watchMemory()
  const runMs: number[] = []
  const cpuMs: number[] = []
  let finite = true
  for (let run = -1; run < runs; run++) {
    const cpu = process.cpuUsage()
    const startedAt = performance.now()
    const { out_hidden_states: out } = await native.run(feeds)
    const used = process.cpuUsage(cpu)
    if (run >= 0) {
      runMs.push(performance.now() - startedAt)
      cpuMs.push((used.user + used.system) / 1000)
    }
    finite &&= out?.data instanceof Float32Array && out.data.every((value) => Number.isFinite(value))
  }
  const { ownMib, mappedMib } = await watch()
  const imageTokens = (side / latentScale / transformer.config.patch_size) ** 2
  const width = checkpoint.linears.get('context_embedder')?.[0]
  if (width === undefined) throw new Error(`Expected a context_embedder in ${checkpoint.source}`)
  const size = { rows, imageTokens, textTokens: tokens, width }
  return {
    writeMs: written - begun,
    loadMs: loaded - written,
    runMs,
    cpuMs,
    ownMib,
    mappedMib,
    size,
    operations: countOperations(checkpoint.linears, size),
    finite,
  }
}

/** A run blocks this thread, so another thread watches. */
function watchMemory(): () => Promise<{ readonly ownMib: number; readonly mappedMib: number }> {
  const thread = new Worker(new URL('memory-watch.ts', import.meta.url), { workerData: sampleMs })
  return async () => {
    const answer = once(thread, 'message')
    thread.postMessage('end')
    return (await answer)[0] as { ownMib: number; mappedMib: number }
  }
}
