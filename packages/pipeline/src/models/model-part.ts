/** One graph of a model with the configuration that goes with it, before it is loaded. Types only. */
import type { WrittenGraph } from './onnx-session.ts'

export interface ModelPart {
  /** Its config.json. */
  readonly configFile: string
  /** An exported model.onnx by its path, or a graph written over a checkpoint. */
  readonly graph: string | WrittenGraph
}
