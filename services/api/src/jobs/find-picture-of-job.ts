/** Finds the input picture of an earlier job of the same owner. Runs in the api. */
import { ProblemError } from '@easel/contract'
import type { InputPicture } from '@easel/contract'
import type { PictureField } from '../inputs/picture-source.ts'
import { findJob } from './find-job.ts'
import type { FindNeeds } from './find-job.ts'

/** Undefined if the owner has no such job, or the job has no such picture. */
export async function findPictureOfJob(deps: FindNeeds, id: string, field: PictureField, owner: string): Promise<InputPicture | undefined> {
  try {
    return (await findJob(deps, id, owner)).input[field]
  } catch (error) {
    if (error instanceof ProblemError) return undefined
    throw error
  }
}
