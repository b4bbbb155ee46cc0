/** What the runtime needs of the graph whose rows it runs. Types only. */
import type { PackedRows, RowDims } from '../tensor/packed-rows.ts'
import type { TensorDtype } from '../tensor/tensor.ts'

/** A graph that runs packed rows. It does not know whose rows they are and does not wait for the device, as the batcher holds the turn. */
export interface StepGraph {
  /** The precision of its inputs and output. */
  readonly dtype: TensorDtype
  /** True for an export with one timestep for the whole batch: only rows of one timestep fit together. */
  readonly takesOneTimestep: boolean
  /** The length of the batch axis where the export fixes it. It must be 1, because no other length serves any number of rows. */
  readonly fixedRows: number | undefined
  /** The number of layers in its mask; undefined for a graph that takes no mask. */
  readonly layers: number | undefined
  /** Runs at once; the result lies in `packed.output`. `dims`: of one row. */
  run(packed: PackedRows, dims: RowDims): Promise<void>
}
