/** Makes a new job from the receipt of another one, with the same parameters and no defaults. */
import { ProblemError } from '@easel/contract'
import { toReplayOf } from './compare-replay.ts'
import { findJob } from './find-job.ts'
import { submitJob } from './submit-job.ts'
import type { SubmitContext, SubmitNeeds, SubmittedJob } from './submit-job.ts'

export async function replayJob(deps: SubmitNeeds, id: string, context: Omit<SubmitContext, 'replayOf'>): Promise<SubmittedJob> {
  const original = await findJob(deps, id, context.owner)
  const replayOf = toReplayOf(original)
  if (replayOf === undefined)
    throw new ProblemError('no_receipt', `The job is ${original.status}; only a job that succeeded has a receipt.`)
  return await submitJob(deps, original.input, { ...context, replayOf })
}
