/**
 * Names of the objects in the store. The same for every run of a job, so that a second run overwrites what the first one wrote. A picture's
 * key is also its path under PUBLIC_URL. Pure.
 */
import type { JobInput } from './job-request.ts'
import { isJobId } from './keys.ts'

export type ImageFormat = 'png' | 'jpeg' | 'webp'

/** Object key of image n (from 0) of a job. */
export function imageKey(id: string, n: number, format: ImageFormat = 'png'): string {
  return `images/${id}-${n}.${format === 'jpeg' ? 'jpg' : format}`
}

/** Object key of the thumbnail of image n, always a WebP. An image that is no larger than a thumbnail has none. */
export function thumbnailKey(id: string, n: number): string {
  return `images/${id}-${n}.thumb.webp`
}

/** Every object that a run of the job may have written, whether it succeeded or not: all of them are deleted with the job's pictures. */
export function toImageKeys({ id, input }: { id: string; input: Pick<JobInput, 'num_images_per_prompt' | 'output_format'> }): string[] {
  const keysOf = (n: number): string[] => [imageKey(id, n, input.output_format), thumbnailKey(id, n)]
  return Array.from({ length: input.num_images_per_prompt }, (_, n) => keysOf(n)).flat()
}

/** The job and the object key that belong to a file name under `/images/`; undefined if it is not that of a picture or thumbnail. */
export function parseImageFileName(name: string): { id: string; key: string } | undefined {
  const id = /^([0-9a-f-]{36})-(?:0|[1-9][0-9]?)\.(?:png|jpg|webp|thumb\.webp)$/.exec(name)?.[1]
  return id === undefined || !isJobId(id) ? undefined : { id, key: `images/${name}` }
}

/** Object key of an input picture, by the hash of its bytes. */
export function inputKey(sha256: string): string {
  return `inputs/${sha256}`
}
