/** How a graph is to be run, and the session options of ONNX Runtime that follow from it. Knows nothing about what a graph computes. */
import type { LoadedFiles } from './loaded-files.ts'
import type { ExecutionProvider, SessionOptions } from './onnx-runtime.ts'

export interface OnnxSessionOptions {
  /** Where the graph runs; operators the provider lacks run on the CPU. Default 'cpu'. */
  readonly provider?: ExecutionProvider | undefined
  /** Index of the GPU, from 0, for providers that know several. Default 0. */
  readonly deviceId?: number | undefined
  /** Threads of one run on the CPU, from 1. Default: ONNX Runtime's own, the number of physical cores. */
  readonly intraOpNumThreads?: number | undefined
  /** Inputs that the caller will feed; a graph that lacks one of them is refused. Default none. */
  readonly inputs?: readonly string[] | undefined
  /** Outputs that the caller will fetch; a graph that lacks one of them is refused. Default none. */
  readonly outputs?: readonly string[] | undefined
}

/**
 * How the runtime holds the weights. 'packed': as a private copy, cast and laid out for its kernels when the graph is loaded; the fastest
 * way. 'mapped': where they lie in the file, shared by all processes; a weight stored in another type is cast during every run, just before
 * it is needed.
 */
export type WeightMode = 'packed' | 'mapped'

/** A graph that we wrote, whose weights lie in the checkpoint's files. */
export interface WrittenGraph {
  /** The checkpoint, for errors. */
  readonly name: string
  /** An ONNX model; files of weights are named from the root of the file system. */
  readonly bytes: Uint8Array
  readonly weights: WeightMode
  /** The files that contain the weights; they must not have changed since the graph was written. Default none. */
  readonly files?: LoadedFiles
  /**
   * What the session does between two runs. An open one keeps all the memory that its runs have ever taken; a closed one keeps none, and each
   * run has to open it first, which takes as long as loading it.
   */
  readonly betweenRuns: 'open' | 'closed'
}

export function toSessionOptions(options: OnnxSessionOptions, written?: WrittenGraph): SessionOptions {
  const provider = options.provider ?? 'cpu'
  const chain: ExecutionProvider[] =
    provider === 'tensorrt' ? ['tensorrt', 'cuda', 'cpu'] : provider === 'cpu' ? ['cpu'] : [provider, 'cpu']
  const isMapped = written?.weights === 'mapped'
  return {
    executionProviders: chain.map((name) =>
      name === 'cpu' || options.deviceId === undefined ? name : { name, deviceId: options.deviceId },
    ),
    // Errors only: many warnings about nodes that stay on the CPU are expected.
    logSeverityLevel: 3,
    // Every session has its own threads. Between two runs they would keep spinning and take the cores away from the next session.
    extra: {
      session: {
        force_spinning_stop: '1',
        ...(written === undefined ? {} : { model_external_initializers_file_folder_path: '/' }),
        ...(isMapped ? { disable_prepacking: '1' } : {}),
      },
      // Folding a Cast into a weight would copy the weight.
      ...(isMapped ? { optimization: { disable_specified_optimizers: 'ConstantFolding' } } : {}),
    },
    // Above 'basic' the runtime makes copies of float16 weights.
    ...(isMapped ? { graphOptimizationLevel: 'basic' } : {}),
    // With a memory pattern the runtime takes as much memory again from the second run on. A closed session has no second run to gain from it.
    ...(isMapped || written?.betweenRuns === 'closed' ? { enableMemPattern: false } : {}),
    ...(options.intraOpNumThreads === undefined ? {} : { intraOpNumThreads: options.intraOpNumThreads }),
  }
}
