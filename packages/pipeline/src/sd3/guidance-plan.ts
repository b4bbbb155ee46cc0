/**
 * Which rows each step of a run has: always the prompt's, the negative prompt's while guidance is on, and the prompt's with some layers
 * skipped while skip-layer guidance is on.
 *
 * Pure; knows nothing about tensors.
 */
import type { GenerateCall } from './generate-call.ts'

/** The number of rows in a step for each picture, 1 to 3. */
export interface StepPlan {
  /** Whether the negative rows run too. */
  readonly isGuided: boolean
  /** Whether the rows that skip layers run too; only while guidance is on. */
  readonly skipsLayers: boolean
}

export class GuidancePlan {
  readonly call: Pick<GenerateCall, 'guidanceScale' | 'guidanceInterval' | 'skipLayerGuidance'>
  readonly steps: number

  constructor(call: Pick<GenerateCall, 'guidanceScale' | 'guidanceInterval' | 'skipLayerGuidance'>, steps: number) {
    this.call = call
    this.steps = steps
  }

  /** Whether any step has negative rows. */
  get isEverGuided(): boolean {
    const [start, stop] = this.call.guidanceInterval
    return this.call.guidanceScale > 1 && start < stop
  }

  at(step: number): StepPlan {
    const [start, stop] = this.call.guidanceInterval
    const share = step / this.steps
    const isGuided = this.call.guidanceScale > 1 && start <= share && share < stop
    const skip = this.call.skipLayerGuidance
    // Neither bound is included, as in diffusers.
    const skipsLayers = isGuided && skip !== undefined && step > this.steps * skip.start && step < this.steps * skip.stop
    return { isGuided, skipsLayers }
  }

  /** The number of rows for the transformer from this step to the last. */
  remainingRows(step: number, pictures: number): number {
    let rows = 0
    for (let at = step; at < this.steps; at++) {
      const { isGuided, skipsLayers } = this.at(at)
      rows += pictures * (1 + Number(isGuided) + Number(skipsLayers))
    }
    return rows
  }
}
