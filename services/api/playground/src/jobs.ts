/**
 * Owns the jobs on the page: those that the api lists, those that this browser remembers, and the progress of those that have not ended.
 *
 * Invariant: every job that has not ended is followed exactly once, and the newest job comes first. Runs in the browser.
 */
import { signal } from '@preact/signals'
import { EaselError, type FollowedEvent, type Job } from '@easel/client'
import type { CreateJobRequest } from '@easel/contract'
import { announce } from './announce.ts'
import { easel, link } from './api.ts'
import { dropFavourites } from './favourites.ts'
import { rememberInput } from './job-inputs.ts'

export interface ShownJob {
  job: Job
  /** The latest preview of each image, as a data: URL. */
  previews: readonly (string | undefined)[]
  /** Whether a cancel was accepted, which takes effect at the next step. */
  canceling: boolean
  /** Why the last action on this job failed; empty when none did. */
  problem: string
}

const rememberedName = 'easel.jobs'
/** How many jobs are read from the list at once, and how many ids this browser keeps. */
const galleryLength = 40
/** Milliseconds until a list that was refused is requested again. */
const retryMs = 3000

export const jobs = signal<readonly ShownJob[]>([])
/** `loading` until the list has been read once. */
export const galleryState = signal<'loading' | 'read'>('loading')

/** The cursor of the next older page; null when there is none. */
export const olderCursor = signal<string | null>(null)

const followed = new Set<string>()

/** Reads the gallery. The jobs of this browser stay in it even if others have made many jobs since. */
export async function loadGallery(): Promise<void> {
  try {
    const { jobs: listed, next } = await easel.listPage({ limit: galleryLength })
    for (const job of listed) show(job)
    // Older pages that are shown already stay.
    if (galleryState.value === 'loading') olderCursor.value = next
    const missing = remembered().filter((id) => !listed.some((job) => job.id === id))
    await Promise.all(missing.map(loadRemembered))
    galleryState.value = 'read'
  } catch (error) {
    // The gallery is read again when the service is back or a key has been given.
    if (!(error instanceof EaselError)) throw error
    if (error.status !== 401 && link.value === 'ok') setTimeout(() => void loadGallery(), retryMs)
  }
}

export async function loadOlder(): Promise<void> {
  if (olderCursor.value === null) return
  try {
    const { jobs: listed, next } = await easel.listPage({ limit: galleryLength, cursor: olderCursor.value })
    for (const job of listed) show(job)
    olderCursor.value = next
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    announce(error.message)
  }
}

/** Deletes a job with its pictures. */
export async function remove(id: string): Promise<void> {
  showProblem(id, '')
  try {
    await easel.delete(id)
    forget(id)
    announce('Deleted')
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    if (error.status === 404) forget(id)
    else showProblem(id, `Not deleted: ${error.message}`)
  }
}

/** A request without an answer may have been accepted; sent again with the same key, it returns the same job. */
let unanswered = { body: '', key: '' }

export async function submit(wish: CreateJobRequest): Promise<Job> {
  const body = JSON.stringify(wish)
  if (unanswered.body !== body) unanswered = { body, key: toHex(crypto.getRandomValues(new Uint8Array(16))) }
  const job = await easel.create(wish, { idempotencyKey: unanswered.key })
  unanswered = { body: '', key: '' }
  remember([job.id, ...remembered()])
  rememberInput(job.id, wish.image)
  show(job)
  announce(`Queued: ${job.input.prompt}`)
  return job
}

export async function cancel(id: string): Promise<void> {
  change(id, (shown) => ({ ...shown, canceling: true, problem: '' }))
  try {
    const job = await easel.cancel(id)
    change(id, (shown) => ({ ...shown, job: later(shown.job, job) }))
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    // The job may have ended in the meantime; its end arrives by itself.
    const problem = error.code === 'job_finished' ? '' : `Not canceled: ${error.message}`
    change(id, (shown) => ({ ...shown, canceling: false, problem }))
  }
}

/** Shows on a job's card which action on it failed. */
export function showProblem(id: string, problem: string): void {
  change(id, (shown) => ({ ...shown, problem }))
  if (problem !== '') announce(problem)
}

export function hasEnded({ completed_at: completedAt }: Job): boolean {
  return completedAt !== null
}

/** An answer about a job may be older than the events received meanwhile, and a job that has ended stays ended. */
function later(known: Job | undefined, answered: Job): Job {
  return known !== undefined && hasEnded(known) && !hasEnded(answered) ? known : answered
}

function show(job: Job): void {
  const others = jobs.value.filter((shown) => shown.job.id !== job.id)
  const known = jobs.value.find((shown) => shown.job.id === job.id)
  const shown = { previews: [], canceling: false, problem: '', ...known, job: later(known?.job, job) }
  // Ids sort by creation time.
  jobs.value = [...others, shown].sort((a, b) => (a.job.id < b.job.id ? 1 : -1))
  if (!hasEnded(shown.job)) void follow(job.id)
}

function change(id: string, update: (shown: ShownJob) => ShownJob): void {
  jobs.value = jobs.value.map((shown) => (shown.job.id === id ? update(shown) : shown))
}

async function follow(id: string): Promise<void> {
  if (followed.has(id)) return
  followed.add(id)
  try {
    for await (const event of easel.events(id, { retries: Infinity })) change(id, (shown) => applyEvent(shown, event))
  } catch (error) {
    // The job is gone, or a key is asked for.
    if (!(error instanceof EaselError)) throw error
  } finally {
    followed.delete(id)
  }
  // The stream broke off before the job's end, so the record is read.
  if (jobs.value.some(({ job }) => job.id === id && !hasEnded(job))) await loadRemembered(id)
}

function applyEvent(shown: ShownJob, event: FollowedEvent): ShownJob {
  const { job, previews } = shown
  if (event.type === 'status') {
    return { ...shown, job: { ...job, status: event.status, queue_position: event.status === 'queued' ? job.queue_position : null } }
  }
  if (event.type === 'progress') return { ...shown, job: { ...job, progress: { step: event.step, total: event.total } } }
  if (event.type === 'queue') {
    return { ...shown, job: { ...job, queue_position: event.queue_position, eta_seconds: event.eta_seconds } }
  }
  if (event.type === 'preview') return { ...shown, previews: Object.assign([...previews], { [event.image]: event.data_url }) }
  announce(`${endWords[event.job.status] ?? event.job.status}: ${event.job.input.prompt}`)
  return { ...shown, job: event.job, canceling: false, problem: '' }
}

const endWords: Partial<Record<Job['status'], string>> = { succeeded: 'Ready', failed: 'Failed', canceled: 'Canceled' }

async function loadRemembered(id: string): Promise<void> {
  try {
    show(await easel.get(id))
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    if (error.status === 404 || error.status === 410) forget(id)
  }
}

function forget(id: string): void {
  remember(remembered().filter((other) => other !== id))
  jobs.value = jobs.value.filter(({ job }) => job.id !== id)
  dropFavourites(id)
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function remembered(): string[] {
  try {
    const ids: unknown = JSON.parse(localStorage.getItem(rememberedName) ?? '[]')
    return Array.isArray(ids) ? ids.filter((id) => typeof id === 'string') : []
  } catch {
    return []
  }
}

function remember(ids: readonly string[]): void {
  localStorage.setItem(rememberedName, JSON.stringify(ids.slice(0, galleryLength)))
}
