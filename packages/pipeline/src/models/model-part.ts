/** One graph of a model and its configuration, before it is loaded. Types only. */
import type { LoraTarget } from '../tensor/lora.ts'
import type { WrittenGraph } from './session-options.ts'

export interface ModelPart {
  /** Its config.json. */
  readonly configFile: string
  /** The path of an exported model.onnx, or a graph written over a checkpoint. */
  readonly graph: string | WrittenGraph
  /** Writes it again for low-rank additions; only for a transformer over a checkpoint. */
  readonly lora?: LoraGraphSource
}

/** A graph with inputs for the low-rank additions to some of its linear layers. */
export interface LoraGraphSource extends LoraTarget {
  write(linears: ReadonlySet<string>): Promise<WrittenGraph>
}
