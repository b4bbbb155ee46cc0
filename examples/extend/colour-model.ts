/**
 * A new model family, as small as possible: it knows words for colours, and draws the mean of those in the prompt. It shares with
 * Stable Diffusion 3 everything around the model: the writing of graphs, the step batcher, schedulers, request scoping.
 *
 * To make a family a part of Easel:
 * 1. packages/pipeline/src/graphs/NAME-graph.ts: its graph, like `buildColourGraph` here; one for each part of the model, and a line for each in
 *    `writers` of write-graph.ts. A golden test compares each with the original.
 * 2. packages/pipeline/src/models/NAME-transformer.ts: what runs the graph of a step, like `ColourDenoiser`; text encoders and decoders too.
 * 3. packages/pipeline/src/NAME/: the pipeline, like `ColourPipeline`, and a run with the state of one call. Follow sd3/: parameters are
 *    checked before anything runs, and a run can be aborted and resumed and reports its steps. `oxlint.config.ts` says what a folder may import.
 * 4. packages/pipeline/src/sd3/load-pipeline.ts: its class in `classes`, in place of `registerPipelineClass`.
 * 5. packages/pipeline/src/sd3/presets.ts and packages/model-store/src/select-files.ts: where it comes from, and which of its files are read.
 * 6. services/gpu-worker/src/engine/engine-host.ts: it accepts only a StableDiffusion3Pipeline. Make what it uses (defaults, limits, hash,
 *    counters, `decodeLatents` for previews) an interface that both classes implement.
 *
 * The model is a flow: a sample at level σ is (1 - σ) · picture + σ · noise, and the graph gives its velocity, noise - picture. A model of one
 * picture knows that exactly: (sample - picture) / σ.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { FlowMatchEulerDiscreteScheduler, Generator, randnTensor, registerPipelineClass, Tensor, VaeImageProcessor } from '@easel/pipeline'
import type { Rgb8Image } from '@easel/pipeline'
import { readCheckpoint } from '../../packages/pipeline/src/graphs/checkpoint.ts'
import type { Checkpoint } from '../../packages/pipeline/src/graphs/checkpoint.ts'
import { Layers } from '../../packages/pipeline/src/graphs/layers.ts'
import { encodeOnnxModel } from '../../packages/pipeline/src/graphs/onnx-model.ts'
import { operatorChoices } from '../../packages/pipeline/src/graphs/operator-choices.ts'
import { readModelJson } from '../../packages/pipeline/src/models/model-file.ts'
import { OnnxSession } from '../../packages/pipeline/src/models/onnx-session.ts'
import { Runtime } from '../../packages/pipeline/src/runtime/runtime.ts'
import type { StepGraph } from '../../packages/pipeline/src/runtime/step-graph.ts'
import type { PackedRows, RowDims } from '../../packages/pipeline/src/tensor/packed-rows.ts'

const configSchema = z.strictObject({ words: z.array(z.string()).min(1) })
const channels = 3

/** The velocity of each row. The prompt is (rows, 1, words), the part that each word has in it; the timestep is σ in thousandths. */
export function buildColourGraph(words: number, checkpoint: Checkpoint): Uint8Array {
  const layers = new Layers(checkpoint, { operators: operatorChoices.cpu, computeType: 'float32', weights: 'packed' })
  const sample = layers.input('hidden_states', 'float32', ['rows', channels, 'height', 'width'])
  const timestep = layers.input('timestep', 'float32', ['rows'])
  const prompt = layers.input('encoder_hidden_states', 'float32', ['rows', 1, words])
  const picture = layers.reshape(layers.linear(prompt, 'colours', words, channels, false), -1, channels, 1, 1)
  const sigma = layers.reshape(layers.mul(timestep, layers.scalar(0.001)), -1, 1, 1, 1)
  const velocity = layers.node('Div', [layers.node('Sub', [sample, picture]), sigma])
  layers.output('out_hidden_states', velocity, 'float32', ['rows', channels, 'height', 'width'])
  return encodeOnnxModel(layers.graph)
}

/** Runs the rows of a step. The batcher decides whose rows run, and when. */
class ColourDenoiser implements StepGraph {
  readonly dtype = 'float32'
  readonly takesOneTimestep = false
  readonly fixedRows = undefined
  readonly layers = undefined
  readonly session: OnnxSession

  constructor(session: OnnxSession) {
    this.session = session
  }

  async run({ rows, hiddenStates, timestep, encoderHiddenStates, output }: PackedRows, { latents, embeds }: RowDims): Promise<void> {
    const feeds = {
      hidden_states: { data: hiddenStates, dims: [rows, ...latents] },
      timestep: { data: timestep, dims: [rows] },
      encoder_hidden_states: { data: encoderHiddenStates, dims: [rows, ...embeds] },
    }
    await this.session.runInto(feeds, { name: 'out_hidden_states', data: output, dims: [rows, ...latents] })
  }
}

export interface ColourParams {
  prompt: string
  /** Determines the noise from which the picture is made. Default 0. */
  seed?: number
  /** Steps, from 1. Default 4. */
  numInferenceSteps?: number
  /** Pixels. Default 16. */
  side?: number
}

export class ColourPipeline {
  readonly words: readonly string[]
  readonly denoiser: ColourDenoiser
  /** Every call works on a copy. */
  scheduler = new FlowMatchEulerDiscreteScheduler()
  /** Shared by all views, so that rows of all requests share steps. */
  readonly runtime: Runtime
  readonly imageProcessor = new VaeImageProcessor()

  constructor(words: readonly string[], denoiser: ColourDenoiser, runtime = new Runtime(denoiser)) {
    this.words = words
    this.denoiser = denoiser
    this.runtime = runtime
  }

  /** `folder`: model_index.json, config.json with the words, model.safetensors with `colours.weight`, (3, words), -1 to 1. */
  static async fromPretrained(folder: string): Promise<ColourPipeline> {
    const { words } = await readModelJson(join(folder, 'config.json'), configSchema)
    const weights = join(folder, 'model.safetensors')
    const bytes = buildColourGraph(words.length, await readCheckpoint(weights))
    const session = await OnnxSession.load({ name: weights, bytes, weights: 'packed', betweenRuns: 'open' }, { intraOpNumThreads: 1 })
    return new ColourPipeline(words, new ColourDenoiser(session))
  }

  /** A view for one request; RequestScopedPipeline calls this. */
  cloneForRequest(): ColourPipeline {
    return new ColourPipeline(this.words, this.denoiser, this.runtime)
  }

  async generate({ prompt, seed = 0, numInferenceSteps = 4, side = 16 }: ColourParams): Promise<{ images: Rgb8Image[] }> {
    const encoderHiddenStates = this.encode(prompt)
    const scheduler = this.scheduler.clone()
    scheduler.setTimesteps(numInferenceSteps)
    let sample = randnTensor([1, channels, side, side], new Generator(seed))
    for (const timestep of scheduler.timesteps) {
      const row = { hiddenStates: sample, timestep, encoderHiddenStates, pooledProjections: new Tensor(new Float32Array(1), [1, 1]) }
      sample = scheduler.step(await this.runtime.batcher.forward([row]), timestep, sample).prevSample
    }
    return { images: this.imageProcessor.postprocess(sample) }
  }

  /** (1, 1, words): the part that each word has in the prompt. */
  encode(prompt: string): Tensor {
    const known = prompt
      .toLowerCase()
      .split(/\W+/)
      .map((word) => this.words.indexOf(word))
      .filter((index) => index >= 0)
    if (known.length === 0) throw new RangeError(`Expected a prompt with one of the words ${this.words.join(', ')}, got none of them`)
    const parts = new Float32Array(this.words.length)
    for (const index of known) parts[index]! += 1 / known.length
    return new Tensor(parts, [1, 1, this.words.length])
  }

  async close(): Promise<void> {
    await this.denoiser.session.release()
    await this.runtime.close()
  }
}

/** After this, `loadPipeline` can load folders whose model_index.json names ColourPipeline. */
export function registerColourPipeline(): void {
  registerPipelineClass('ColourPipeline', ColourPipeline)
}
