/**
 * The prediction of one step for a run: puts its rows into one call of the batcher and computes guidance from the result.
 *
 * Invariant: all rows of a step, including those that skip layers, go through one call, so they are admitted and counted alike.
 * Knows nothing about schedules. Runs in the engine process.
 */
import type { StepBatcher } from '../runtime/step-batcher.ts'
import type { StepContext, StepRow } from '../runtime/step-call.ts'
import type { GuidedOutput } from '../schedulers/scheduler.ts'
import { concatRows, splitRows } from '../tensor/rows.ts'
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

/** The model's prediction for a step. Guidance is applied only when `noise` is called, or by a scheduler that takes `guided`. */
export interface Prediction {
  /** The two outputs that guidance combines; undefined without guidance, and with skip-layer guidance, which combines three. */
  readonly guided: GuidedOutput | undefined
  /** The velocity, with the dims of the latents, in memory that nothing else uses. */
  readonly noise: () => Tensor
}

/** Resolves with what `step` makes of the prediction, which it must read before it returns. */
export async function predictNoise<T>(
  batcher: StepBatcher,
  { guidanceScale: scale, skipLayerGuidance }: Pick<GenerateCall, 'guidanceScale' | 'skipLayerGuidance'>,
  { latents, timestep, texts, plan, lora }: StepInput,
  context: StepContext,
  step: (prediction: Prediction) => T,
): Promise<T> {
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
  if (!plan.isGuided) {
    return batcher.forward(rowsFrom(prompt), context, (rows) => step({ guided: undefined, noise: () => concatRows(rows) }))
  }

  const rows = [...rowsFrom(0), ...rowsFrom(prompt)]
  const skip = plan.skipsLayers ? skipLayerGuidance : undefined
  if (skip !== undefined) rows.push(...rowsFrom(prompt, skip.layerMask))
  return batcher.forward(rows, context, (predictions, seen) => {
    const uncond = predictions.slice(0, pictures)
    const cond = predictions.slice(pictures, pictures * 2)
    const skipped = predictions.slice(pictures * 2)
    const noise = (): Tensor => {
      const guided = guide(asOne(uncond), asOne(cond), scale)
      return skip === undefined ? guided : guideAwayFrom(guided, asOne(cond), asOne(skipped), skip.scale)
    }
    return step({ guided: skip === undefined ? { uncond, cond, scale, sample: seen.slice(0, pictures) } : undefined, noise })
  })
}

/** A single row is returned as it is, without a copy; several rows are copied to one tensor. */
const asOne = (rows: readonly Tensor[]): Tensor => (rows.length === 1 ? (rows[0] as Tensor) : concatRows(rows))
