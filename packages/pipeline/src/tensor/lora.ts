/**
 * Low-rank additions to linear layers, as a graph reads them: to what a layer makes of x comes x · down · up. Types only, and the one number
 * that whoever lays them out and whoever writes the graph agree on.
 */

/**
 * Ranks are filled up with zeros to a multiple of this. A product of that many columns is summed up in the same order whatever stands beside
 * it, so a row comes out the same whichever ranks the others in its step have.
 */
export const LORA_GROUP = 16

export interface LoraLayer {
  readonly groups: number
  /** (groups, from, LORA_GROUP) */
  readonly down: Float32Array
  /** (groups × LORA_GROUP, to), with every factor in it. */
  readonly up: Float32Array
}

/** By the linear layer's name in the model. What a request adds is one object: whoever has the same one shares its memory in a step. */
export type LoraLayers = ReadonlyMap<string, LoraLayer>

/** The linear layers of a model: [to, from] of each by name. */
export type LinearShapes = ReadonlyMap<string, readonly [to: number, from: number]>

/** What a LoRA can be for. */
export interface LoraTarget {
  readonly shapes: LinearShapes
  /** Whether the model's last norms have shift before scale, as Stability's single files do. */
  readonly shiftFirst: boolean
}
