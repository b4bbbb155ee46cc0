/**
 * The rows of a denoising step laid out one after another, as a transformer's graph reads and writes them. Types only: the code that packs
 * the rows and the code that runs them agree on these and know nothing else about each other.
 */

import type { LoraLayers } from './lora.ts'

/** Values as float32, or the bits of float16 values. */
export type RowValues = Float32Array | Uint16Array

export interface PackedRows {
  readonly rows: number
  /** (rows, in_channels, height / 8, width / 8) */
  readonly hiddenStates: RowValues
  /** (rows,), 0 to 1000. */
  readonly timestep: Float32Array
  /** (rows, tokens, joint_attention_dim) */
  readonly encoderHiddenStates: RowValues
  /** (rows, pooled_projection_dim) */
  readonly pooledProjections: RowValues
  /** (rows, layers): 1 for a layer that takes part, 0 for one that is skipped. Undefined for a graph that takes no mask. */
  readonly layerMask: Float32Array | undefined
  /** What each row adds to the model's layers; undefined when no row adds anything. */
  readonly loras: readonly LoraLayers[] | undefined
  /** (rows, in_channels, height / 8, width / 8), written by the run. */
  readonly output: RowValues
}

/** The dims of one row. */
export interface RowDims {
  /** [in_channels, height / 8, width / 8] */
  readonly latents: readonly number[]
  /** [tokens, joint_attention_dim] */
  readonly embeds: readonly number[]
}
