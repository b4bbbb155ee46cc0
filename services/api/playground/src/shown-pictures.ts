/** Owns which jobs the gallery shows, which picture is open and which jobs are selected. Runs in the browser. */
import { computed, signal } from '@preact/signals'
import type { Image } from '@easel/contract'
import { isFavourite, onlyFavourites } from './favourites.ts'
import { jobs, type ShownJob } from './jobs.ts'

export interface ShownPicture {
  shown: ShownJob
  image: Image
  /** The number of the picture in its job, from 0. */
  n: number
}

export const shownJobs = computed(() =>
  onlyFavourites.value ? jobs.value.filter(({ job }) => job.output?.images.some((_, n) => isFavourite(job.id, n))) : jobs.value,
)

/** Every finished picture, in the order of the gallery. */
const pictures = computed<readonly ShownPicture[]>(() =>
  shownJobs.value.flatMap((shown) => (shown.job.output?.images ?? []).map((image, n) => ({ shown, image, n }))),
)

const openedKey = signal('')
/** The picture that is shown large; undefined when none is. */
export const opened = computed(() => pictures.value.find(({ shown, n }) => `${shown.job.id}-${n}` === openedKey.value))

export function open(jobId: string, n: number): void {
  openedKey.value = `${jobId}-${n}`
}

export function close(): void {
  openedKey.value = ''
}

/** Opens the next picture, or with -1 the previous one. Nothing happens at either end. */
export function openNext(step: 1 | -1): void {
  if (opened.value === undefined) return
  const next = pictures.value[pictures.value.indexOf(opened.value) + step]
  if (next !== undefined) open(next.shown.job.id, next.n)
}

/** The ids of the selected jobs; undefined while nothing can be selected. */
export const selected = signal<ReadonlySet<string> | undefined>(undefined)

export function toggleSelected(jobId: string): void {
  const others = new Set(selected.value)
  if (!others.delete(jobId)) others.add(jobId)
  selected.value = others
}

/** The path by which this page reaches a picture's file, because PUBLIC_URL may be another address. */
export function toPath(url: string): string {
  return `images/${url.slice(url.lastIndexOf('/') + 1)}`
}

/** The path of a picture's thumbnail, or of the picture itself for jobs of an earlier Easel, which have none. */
export function toThumbnailPath({ url, thumbnail_url: small = url }: Image): string {
  return toPath(small)
}

/** The name of a picture: its prompt, and its number if the job has several. */
export function toTitle({ shown: { job }, n }: Pick<ShownPicture, 'shown' | 'n'>): string {
  return job.input.num_images_per_prompt === 1 ? job.input.prompt : `${job.input.prompt} (${n + 1})`
}
