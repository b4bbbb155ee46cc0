/**
 * The prediction of one step for a run: puts its rows into one call of the batcher and computes guidance from the result.
 *
 * Invariant: all rows of a step, including those that skip layers, go through one call, so they are admitted and counted alike.
 * Knows nothing about schedules. Runs in the engine process.
 */
import type { StepBatcher } from '../runtime/step-batcher.ts'
import type { StepContext, StepRow } from '../runtime/step-call.ts'
import { sliceRows, splitRows } from '../tensor/rows.ts'
import type { LoraLayers } from '../tensor/lora.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { TextRows } from './encode-texts.ts'
import type { GenerateCall } from './generate-call.ts'
import { guide, guideAwayFrom } from './guidance.ts'
import type { StepPlan } from './guidance-plan.ts'

export interface StepInput {
  /** (pictures, in_channels, height / 8, width / 8) */
  readonly latents: Tensor
  /** 0 to 1000. */
  readonly timestep: number
  readonly texts: TextRows
  readonly plan: StepPlan
  /** What the call's LoRAs add to every row; undefined without LoRAs. */
  readonly lora: LoraLayers | undefined
}

/** Makes the predictions of one run, one step after another. */
export class NoisePredictor {
  readonly batcher: StepBatcher
  readonly call: Pick<GenerateCall, 'guidanceScale' | 'skipLayerGuidance'>
  /**
   * The last prediction that guidance has read and that nobody else has seen. The next step's prediction is written over it, because
   * allocating megabytes for each picture at each step would keep the thread busy between two runs.
   */
  private guided: Tensor | undefined

  constructor(batcher: StepBatcher, call: Pick<GenerateCall, 'guidanceScale' | 'skipLayerGuidance'>) {
    this.batcher = batcher
    this.call = call
  }

  /** The velocity to step along, with the dims of the latents, in memory that nothing else uses. */
  async predict({ latents, timestep, texts, plan, lora }: StepInput, context: StepContext): Promise<Tensor> {
    const { batcher, call } = this
    const hidden = splitRows(latents)
    const pictures = hidden.length
    /** Rows whose texts begin at index `from`. */
    const rowsFrom = (from: number, layerMask?: Float32Array): StepRow[] =>
      hidden.map((hiddenStates, picture) => ({
        hiddenStates,
        timestep,
        encoderHiddenStates: texts.embeds[from + picture] as Tensor,
        pooledProjections: texts.pooled[from + picture] as Tensor,
        layerMask,
        lora,
      }))
    // The texts of the prompt come last.
    const prompt = texts.embeds.length - pictures
    if (!plan.isGuided) return batcher.forward(rowsFrom(prompt), context)

    const rows = [...rowsFrom(0), ...rowsFrom(prompt)]
    const skip = plan.skipsLayers ? call.skipLayerGuidance : undefined
    if (skip !== undefined) rows.push(...rowsFrom(prompt, skip.layerMask))
    const prediction = await batcher.forward(rows, context, this.guided)
    const cond = sliceRows(prediction, pictures, pictures * 2)
    let noise = guide(sliceRows(prediction, 0, pictures), cond, call.guidanceScale)
    if (skip !== undefined) noise = guideAwayFrom(noise, cond, sliceRows(prediction, pictures * 2, pictures * 3), skip.scale)
    this.guided = prediction
    return noise
  }
}
