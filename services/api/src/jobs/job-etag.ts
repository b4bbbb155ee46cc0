/** The tag by which a polling client learns whether a job has changed since it last asked. Pure. */
import { createHash } from 'node:crypto'
import type { Job } from '@easel/contract'

/**
 * A weak entity tag: two job objects with the same tag say the same about the job. It does not cover what is computed for every read:
 * the estimated time and the presigned URLs.
 */
export function toJobEtag({ eta_seconds: _eta, output, ...job }: Job): string {
  const images = output?.images.map(({ url, sha256 }) => [url, sha256])
  const hash = createHash('sha256').update(JSON.stringify({ ...job, images }))
  return `W/"${hash.digest('base64url').slice(0, 22)}"`
}
