/**
 * The rows of a denoising step laid out one after another, as a transformer's graph reads and writes them. Types only: the code that packs
 * the rows and the code that runs them agree on these and know nothing else about each other.
 */

import type { LoraLayers } from './lora.ts'
import type { TensorValues } from './tensor.ts'

export interface PackedRows {
  readonly rows: number
  /** (rows, in_channels, height / 8, width / 8) */
  readonly hiddenStates: TensorValues
  /** (rows,), 0 to 1000. */
  readonly timestep: Float32Array
  /** (rows, tokens, joint_attention_dim) */
  readonly encoderHiddenStates: TensorValues
  /** (rows, pooled_projection_dim) */
  readonly pooledProjections: TensorValues
  /** (rows, layers): 1 for a layer that runs, 0 for one that is skipped. Undefined for a graph that takes no mask. */
  readonly layerMask: Float32Array | undefined
  /** What each row adds to the model's layers; undefined when no row adds anything. */
  readonly loras: readonly LoraLayers[] | undefined
  /** (rows, in_channels, height / 8, width / 8), written by the run. */
  readonly output: TensorValues
}

/** The dims of one row. */
export interface RowDims {
  /** [in_channels, height / 8, width / 8] */
  readonly latents: readonly number[]
  /** [tokens, joint_attention_dim] */
  readonly embeds: readonly number[]
}
