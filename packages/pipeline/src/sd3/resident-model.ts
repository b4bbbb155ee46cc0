/** What is loaded once and shared by all runs: the parts of a model, and what its runs share on the device. Types only. */
import type { LoadedFiles } from '../models/loaded-files.ts'
import type { Runtime } from '../runtime/runtime.ts'
import type { VaeImageProcessor } from '../tensor/image-processor.ts'
import type { GenerateDefaults } from './generate-call.ts'
import type { ParamLimits } from './generate-params.ts'
import type { Sd3Components } from './load-components.ts'
import type { LoraStore } from './lora-store.ts'

/** Never changed, not even its scheduler: each run makes its own copy of that. */
export interface ResidentModel extends Sd3Components {
  readonly imageProcessor: VaeImageProcessor
  readonly runtime: Runtime
  /** The files that the weights were loaded from. */
  readonly files: LoadedFiles
  /** Undefined where LoRAs cannot be added. */
  readonly loras: LoraStore | undefined
  /** What a call uses for parameters that it does not give. */
  readonly defaults: GenerateDefaults
  /** What calls are checked against. */
  readonly limits: ParamLimits
}
