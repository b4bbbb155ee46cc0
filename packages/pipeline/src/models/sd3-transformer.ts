/**
 * The denoising transformer of Stable Diffusion 3, from `transformer/`.
 *
 * Owns the one entry to its graph: rows of any requests at any timesteps go in together, each row comes out as it would alone.
 * Knows nothing about guidance, schedulers or who the rows belong to. Runs in the engine process.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { concatRows, rowsOf, sliceRows } from '../tensor/rows.ts'
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

export interface Sd3TransformerInput {
  /** (batch, in_channels, height / 8, width / 8) */
  readonly hiddenStates: Tensor
  /** One per row, 0 to 1000. */
  readonly timestep: Float32Array
  /** (batch, sequence, joint_attention_dim) */
  readonly encoderHiddenStates: Tensor
  /** (batch, pooled_projection_dim) */
  readonly pooledProjections: Tensor
}

export class Sd3Transformer {
  readonly config: Sd3TransformerConfig
  readonly session: OnnxSession

  constructor(config: Sd3TransformerConfig, session: OnnxSession) {
    this.config = config
    this.session = session
  }

  static async load(folder: string, options: OnnxSessionOptions = {}): Promise<Sd3Transformer> {
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
    return new Sd3Transformer(config, session)
  }

  /** Precision the graph takes and gives. */
  get dtype(): TensorDtype {
    return this.session.inputDtype('hidden_states')
  }

  /** Predicted velocity of each row: dims of hiddenStates. */
  async forward(input: Sd3TransformerInput): Promise<Tensor> {
    const rows = rowsOf(input.hiddenStates)
    if (input.timestep.length !== rows) throw new RangeError(`Expected ${rows} timesteps, one per row, got ${input.timestep.length}`)
    const mixed = input.timestep.some((value) => value !== input.timestep[0])
    if (!mixed || !this.takesOneTimestep) return this.run(input)
    const results: Tensor[] = []
    for (let row = 0; row < rows; row++) {
      results.push(
        await this.run({
          hiddenStates: sliceRows(input.hiddenStates, row, row + 1),
          timestep: input.timestep.slice(row, row + 1),
          encoderHiddenStates: sliceRows(input.encoderHiddenStates, row, row + 1),
          pooledProjections: sliceRows(input.pooledProjections, row, row + 1),
        }),
      )
    }
    return concatRows(results)
  }

  /** Some exports declare one timestep for the whole batch. */
  get takesOneTimestep(): boolean {
    const shape = this.session.inputs.get('timestep')?.shape ?? []
    return shape.length === 0 || shape[0] === 1
  }

  async run(input: Sd3TransformerInput): Promise<Tensor> {
    const timestep = this.takesOneTimestep ? input.timestep.subarray(0, 1) : input.timestep
    const output = await this.session.run(
      {
        hidden_states: input.hiddenStates,
        timestep: { data: timestep, dims: [timestep.length] },
        encoder_hidden_states: input.encoderHiddenStates,
        pooled_projections: input.pooledProjections,
      },
      ['out_hidden_states'],
      { out_hidden_states: input.hiddenStates.dims },
    )
    return output['out_hidden_states'] as Tensor
  }

  release(): Promise<void> {
    return this.session.release()
  }
}
