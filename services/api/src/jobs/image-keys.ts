/** Where the pictures of a job lie in the store: every object that a run of it may have written, also one that did not succeed. Pure. */
import { imageKey } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'

export function toImageKeys({ id, input }: JobRecord): string[] {
  return Array.from({ length: input.num_images_per_prompt }, (_, n) => imageKey(id, n, input.output_format))
}
