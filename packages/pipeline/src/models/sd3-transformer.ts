/**
 * The denoising transformer of Stable Diffusion 3, from `transformer/`.
 *
 * Owns its graph: takes packed rows with any timesteps and gives each row's predicted velocity, as it would be if the row ran alone.
 * Knows nothing about guidance, schedulers, who the rows belong to or when the device is free. Runs in the engine process.
 */
import { z } from 'zod'
import type { LoraTarget } from '../tensor/lora.ts'
import type { PackedRows, RowDims } from '../tensor/packed-rows.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import { LoraGraph } from './lora-graph.ts'
import { ModelFileError, readModelJson } from './model-file.ts'
import type { ModelPart } from './model-part.ts'
import { OnnxSession } from './onnx-session.ts'
import type { Feed } from './onnx-session.ts'
import type { OnnxSessionOptions } from './session-options.ts'
import { timestepChannels, writeTimestepProj } from './timestep-proj.ts'

const count = z.int().positive()

const sd3TransformerConfigSchema = z.looseObject({
  /** Latent channels in and out. */
  in_channels: count,
  /** Side of a patch in latent pixels; latent sides are multiples of it. */
  patch_size: count,
  /** The latent side the model was trained for; the default image side is this times the VAE's scale. */
  sample_size: count,
  /** Longest side in patches. */
  pos_embed_max_size: count,
  /** Width of a text token. */
  joint_attention_dim: count,
  /** Width of the pooled text vector. */
  pooled_projection_dim: count,
  /** Number of blocks; needed only for a graph whose layer mask has no fixed length. */
  num_layers: count.optional(),
})
export type Sd3TransformerConfig = z.infer<typeof sd3TransformerConfigSchema>

/** The inputs and the output of a step's rows, which share one precision. The timestep may have another. */
const rowInputs = ['hidden_states', 'encoder_hidden_states', 'pooled_projections'] as const

export class Sd3Transformer {
  readonly config: Sd3TransformerConfig
  readonly session: OnnxSession
  /** For rows with low-rank additions; undefined for an exported graph, which takes none. */
  readonly loraGraph: LoraGraph | undefined

  constructor(config: Sd3TransformerConfig, session: OnnxSession, loraGraph?: LoraGraph) {
    this.config = config
    this.session = session
    this.loraGraph = loraGraph
  }

  static async load({ configFile, graph, lora }: ModelPart, options: OnnxSessionOptions = {}): Promise<Sd3Transformer> {
    const config = await readModelJson(configFile, sd3TransformerConfigSchema)
    const timestep = typeof graph === 'string' ? 'timestep' : 'timestep_proj'
    const session = await OnnxSession.load(graph, {
      ...options,
      inputs: [...rowInputs, timestep],
      outputs: ['out_hidden_states'],
    })
    try {
      assertLikeConfig(configFile, config, session)
      assertOneDtype(session)
      return new Sd3Transformer(config, session, lora && new LoraGraph(lora, options))
    } catch (error) {
      await session.release()
      throw error
    }
  }

  /** Precision the graph takes and gives. */
  get dtype(): TensorDtype {
    return this.session.inputDtype('hidden_states')
  }

  /** Some exports declare one timestep for the whole batch. */
  get takesOneTimestep(): boolean {
    const shape = this.session.inputs.get('timestep')?.shape
    return shape !== undefined && (shape.length === 0 || shape[0] === 1)
  }

  /** The length of the batch axis, where the export fixes it. */
  get fixedRows(): number | undefined {
    return rowInputs.map((name) => this.session.inputs.get(name)?.shape[0]).find((rows) => typeof rows === 'number')
  }

  /** The number of layers that can be skipped row by row; undefined for a graph without a layer_mask. */
  get layers(): number | undefined {
    const mask = this.session.inputs.get('layer_mask')
    if (mask === undefined) return undefined
    const layers = mask.shape[1]
    return typeof layers === 'number' ? layers : this.config.num_layers
  }

  /** What a LoRA must fit; undefined for an exported graph. */
  get loraTarget(): LoraTarget | undefined {
    return this.loraGraph?.source
  }

  /** Runs at once and blocks the thread; the velocities lie in `packed.output`. `dims`: of one row. */
  async run(packed: PackedRows, { latents, embeds }: RowDims): Promise<void> {
    const { rows, layerMask } = packed
    const feeds: Record<string, Feed> = {
      hidden_states: { data: packed.hiddenStates, dims: [rows, ...latents] },
      ...this.timestepFeed(packed),
      encoder_hidden_states: { data: packed.encoderHiddenStates, dims: [rows, ...embeds] },
      pooled_projections: { data: packed.pooledProjections, dims: [rows, packed.pooledProjections.length / rows] },
    }
    if (layerMask !== undefined) feeds['layer_mask'] = { data: layerMask, dims: [rows, layerMask.length / rows] }
    const output = { name: 'out_hidden_states', data: packed.output, dims: [rows, ...latents] }
    if (packed.loras === undefined) return this.session.runInto(feeds, output)
    if (this.loraGraph === undefined) throw new Error(`Expected rows without a LoRA, as ${this.session.path} takes none`)
    const lora = await this.loraGraph.prepare(packed.loras)
    await lora.session.runInto({ ...feeds, ...lora.feeds }, output)
  }

  /** Exports take the timestep, our graphs its sinusoid. */
  timestepFeed({ rows, timestep }: PackedRows): Record<string, Feed> {
    if (this.session.inputs.has('timestep')) {
      const given = this.takesOneTimestep ? timestep.subarray(0, 1) : timestep
      return { timestep: { data: given, dims: [given.length] } }
    }
    const data = new Float32Array(rows * timestepChannels)
    for (let row = 0; row < rows; row++) writeTimestepProj(timestep[row] as number, data.subarray(row * timestepChannels))
    return { timestep_proj: { data, dims: [rows, timestepChannels] } }
  }

  async release(): Promise<void> {
    await Promise.all([this.session.release(), this.loraGraph?.release()])
  }
}

function assertLikeConfig(file: string, config: Sd3TransformerConfig, session: OnnxSession): void {
  const axes = [
    ['in_channels', 'hidden_states', 1],
    ['joint_attention_dim', 'encoder_hidden_states', 2],
    ['pooled_projection_dim', 'pooled_projections', 1],
  ] as const
  for (const [field, input, axis] of axes) {
    const length = session.inputs.get(input)?.shape[axis]
    if (typeof length === 'number' && length !== config[field])
      throw new ModelFileError(file, field, `${length} as the graph's ${input}`, `${config[field]}`)
  }
  const out = session.outputs.get('out_hidden_states')?.shape[1]
  if (typeof out === 'number' && out !== config.in_channels)
    throw new ModelFileError(
      file,
      'out_channels',
      `${config.in_channels}, the same as in_channels, because a step changes every channel`,
      `${out}`,
    )
}

/** Rows are packed in the precision of the graph, so its parts must agree on one. */
function assertOneDtype({ path, inputs, outputs }: OnnxSession): void {
  const types = [
    ...rowInputs.map((name) => `${name} ${inputs.get(name)?.type}`),
    `out_hidden_states ${outputs.get('out_hidden_states')?.type}`,
  ]
  if (new Set(types.map((type) => type.split(' ')[1])).size === 1) return
  throw new Error(`Expected the rows of ${path} to be all float32 or all float16, got ${types.join(', ')}; export it in one precision`)
}
