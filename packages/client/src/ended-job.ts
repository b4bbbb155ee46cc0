/** A job that has ended, with types that follow from how it ended. */
import type { Image, Job, JobError } from '@easel/contract'

export type SucceededJob = Job & { status: 'succeeded'; completed_at: string; output: { images: [Image, ...Image[]] } }
export type FailedJob = Job & { status: 'failed'; completed_at: string; error: JobError }
export type CanceledJob = Job & { status: 'canceled'; completed_at: string }

export type EndedJob = SucceededJob | FailedJob | CanceledJob

export function hasEnded(job: Job): job is EndedJob {
  return job.completed_at !== null
}
