/**
 * Low-rank additions to linear layers, as a graph reads them: x · down · up is added to the layer's output for x. Contains types, and the one
 * number on which the code that lays them out and the code that writes the graph have to agree.
 */

/**
 * Ranks are padded with zeros to a multiple of this. A product with that many columns is always summed in the same order, so a row comes out
 * the same whatever ranks the other rows in its step have.
 */
export const loraGroup = 16

export interface LoraLayer {
  readonly groups: number
  /** (groups, from, loraGroup) */
  readonly down: Float32Array
  /** (groups × loraGroup, to), with all factors applied. */
  readonly up: Float32Array
}

/** By the linear layer's name in the model. Requests that add the same thing have the same object and share its memory in a step. */
export type LoraLayers = ReadonlyMap<string, LoraLayer>

/** The linear layers of a model: their [to, from] by name. */
export type LinearShapes = ReadonlyMap<string, readonly [to: number, from: number]>

/** What a LoRA is checked against. */
export interface LoraTarget {
  readonly shapes: LinearShapes
  /** Whether the model's last norms have shift before scale, as in Stability's single files. */
  readonly shiftFirst: boolean
}
