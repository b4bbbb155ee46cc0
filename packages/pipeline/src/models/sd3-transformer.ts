/**
 * The denoising transformer of Stable Diffusion 3, from `transformer/`.
 *
 * Owns the one entry to its graph, with the step batcher behind it: rows of any requests at any timesteps go in together, each row comes
 * out as it would alone.
 * Knows nothing about guidance, schedulers or who the rows belong to. Runs in the engine process.
 */
import { join } from 'node:path'
import { z } from 'zod'
import type { PackedRows } from '../runtime/row-buffers.ts'
import { StepBatcher } from '../runtime/step-batcher.ts'
import type { RowDims, StepBatcherOptions, StepContext, StepRow, StepRunner } from '../runtime/step-batcher.ts'
import type { Tensor, TensorDtype } from '../tensor/tensor.ts'
import { ModelFileError, readModelJson } from './model-file.ts'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxSessionOptions } from './onnx-session.ts'

const count = z.int().positive()

const sd3TransformerConfigSchema = z.looseObject({
  /** Latent channels in and out. */
  in_channels: count,
  /** Side of a patch in latent pixels; latent sides are multiples of it. */
  patch_size: count,
  /** Native latent side; the default image side is this times the VAE's scale. */
  sample_size: count,
  /** Longest side in patches. */
  pos_embed_max_size: count,
  /** Width of a text token. */
  joint_attention_dim: count,
  /** Width of the pooled text vector. */
  pooled_projection_dim: count,
  /** Blocks this graph leaves out, counted from 0: only in transformer_skip/. */
  skip_layers: z.array(z.int().nonnegative()).optional(),
})
export type Sd3TransformerConfig = z.infer<typeof sd3TransformerConfigSchema>

export class Sd3Transformer implements StepRunner {
  readonly config: Sd3TransformerConfig
  readonly session: OnnxSession
  /** The only caller of the session. */
  readonly batcher: StepBatcher

  constructor(config: Sd3TransformerConfig, session: OnnxSession, batching: StepBatcherOptions = {}) {
    this.config = config
    this.session = session
    this.batcher = new StepBatcher(this, batching)
  }

  static async load(
    folder: string,
    options: OnnxSessionOptions & { readonly batching?: StepBatcherOptions } = {},
  ): Promise<Sd3Transformer> {
    const file = join(folder, 'config.json')
    const config = await readModelJson(file, sd3TransformerConfigSchema)
    const session = await OnnxSession.load(join(folder, 'model.onnx'), {
      ...options,
      inputs: ['hidden_states', 'timestep', 'encoder_hidden_states', 'pooled_projections'],
      outputs: ['out_hidden_states'],
    })
    const axes = [
      ['in_channels', 'hidden_states', 1],
      ['joint_attention_dim', 'encoder_hidden_states', 2],
      ['pooled_projection_dim', 'pooled_projections', 1],
    ] as const
    for (const [field, input, axis] of axes) {
      const length = session.inputs.get(input)?.shape[axis]
      if (typeof length !== 'number' || length === config[field]) continue
      await session.release()
      throw new ModelFileError(file, field, `${length} as the graph's ${input}`, `${config[field]}`)
    }
    try {
      return new Sd3Transformer(config, session, options.batching)
    } catch (error) {
      await session.release()
      throw error
    }
  }

  /** Precision the graph takes and gives. */
  get dtype(): TensorDtype {
    return this.session.inputDtype('hidden_states')
  }

  /** Predicted velocity of each row. Calls that wait at the same time share runs; `context` says whose rows they are. */
  forward(rows: readonly StepRow[], context?: StepContext): Promise<Tensor> {
    return this.batcher.forward(rows, context)
  }

  /** Some exports declare one timestep for the whole batch. */
  get takesOneTimestep(): boolean {
    const shape = this.session.inputs.get('timestep')?.shape ?? []
    return shape.length === 0 || shape[0] === 1
  }

  get fixedRows(): number | undefined {
    const rows = this.session.inputs.get('hidden_states')?.shape[0]
    return typeof rows === 'number' ? rows : undefined
  }

  async run(packed: PackedRows, { latents, embeds }: RowDims): Promise<void> {
    const { rows, timestep } = packed
    const given = this.takesOneTimestep ? timestep.subarray(0, 1) : timestep
    await this.session.runInTurn(
      {
        hidden_states: { data: packed.hiddenStates, dims: [rows, ...latents] },
        timestep: { data: given, dims: [given.length] },
        encoder_hidden_states: { data: packed.encoderHiddenStates, dims: [rows, ...embeds] },
        pooled_projections: { data: packed.pooledProjections, dims: [rows, packed.pooledProjections.length / rows] },
      },
      { name: 'out_hidden_states', data: packed.output, dims: [rows, ...latents] },
    )
  }

  release(): Promise<void> {
    return this.session.release()
  }
}
