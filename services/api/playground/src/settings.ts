/**
 * Owns what stands in the form: texts as they were typed, kept over a reload, and the request made of them. The api judges them; the
 * form only leaves out what was left empty. Runs in the browser.
 */
import { computed, effect, signal } from '@preact/signals'
import type { CreateJobRequest, FieldError, Job, JobInput } from '@easel/contract'
import { ApiError } from './api.ts'
import { showProblem, submit } from './jobs.ts'
import { defaultModel, models } from './models.ts'

/** Named as in the api, so that an error finds its field. Numbers are texts: what was typed is what is judged. */
export interface Settings {
  model: string
  prompt: string
  negative_prompt: string
  width: string
  height: string
  num_inference_steps: string
  guidance_scale: string
  num_images_per_prompt: string
  seed: string
  /** Whether `seed` is used; else the api draws one. */
  seedFixed: boolean
}

export type Field = Exclude<keyof Settings, 'seedFixed'>
export const fields: readonly Field[] = [
  'model',
  'prompt',
  'negative_prompt',
  'width',
  'height',
  'num_inference_steps',
  'guidance_scale',
  'num_images_per_prompt',
  'seed',
]

const numberFields = ['width', 'height', 'num_inference_steps', 'guidance_scale', 'num_images_per_prompt'] as const
const settingsName = 'easel.settings'
/** Previews of one run, about. */
const previewsPerJob = 10
const usualSteps = 20

const empty: Settings = {
  model: '',
  prompt: '',
  negative_prompt: '',
  width: '',
  height: '',
  num_inference_steps: '',
  guidance_scale: '',
  num_images_per_prompt: '1',
  seed: '',
  seedFixed: false,
}

export const settings = signal<Settings>(stored())
export const fieldErrors = signal<readonly FieldError[]>([])
/** What is wrong beyond a single field of the form. */
export const formProblem = signal('')
/** Seed of the job submitted last from this page; undefined before the first. */
export const lastSeed = signal<number | undefined>(undefined)

/** Whether a request of the form is on its way. */
export const submitting = signal(false)
/** The model that is shown and sent: the one that was chosen as long as there is one of that name, else the server's default. */
export const chosenModel = computed(() => models.value.find(({ id }) => id === settings.value.model) ?? defaultModel.value)

effect(() => localStorage.setItem(settingsName, JSON.stringify(settings.value)))

export function set(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change }
  fieldErrors.value = fieldErrors.value.filter(({ field }) => !(field in change))
}

/** Puts the settings of a job into the form, with the seed of one of its pictures. */
export function reuse(input: JobInput, seed: number): void {
  settings.value = {
    model: input.model,
    prompt: input.prompt,
    negative_prompt: input.negative_prompt,
    width: String(input.width),
    height: String(input.height),
    num_inference_steps: String(input.num_inference_steps),
    guidance_scale: String(input.guidance_scale),
    num_images_per_prompt: '1',
    seed: String(seed),
    seedFixed: true,
  }
  fieldErrors.value = []
}

/** Submits what stands in the form, one request at a time. The job, or undefined when it was not taken; why is said at the form. */
export async function submitSettings(): Promise<Job | undefined> {
  if (submitting.value) return undefined
  submitting.value = true
  fieldErrors.value = []
  formProblem.value = ''
  try {
    const job = await submit(withPreviews(toRequest(settings.value, chosenModel.value?.id)))
    lastSeed.value = job.input.seed
    return job
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    fieldErrors.value = error.errors
    const known = error.errors.filter(({ field }) => fields.includes(field as Field))
    const told = error.status === 401 || (known.length > 0 && known.length === error.errors.length)
    if (!told) formProblem.value = error.message
    return undefined
  } finally {
    submitting.value = false
  }
}

/** The same picture as one of a job, from a seed that the job has not used. What goes wrong is said at that job. */
export async function submitVariation(job: Job, seed: number): Promise<Job | undefined> {
  const { id, input } = job
  return await submitFrom(id, { ...toSameRequest(job), num_images_per_prompt: 1, seed: seed + input.num_images_per_prompt })
}

/** The whole input of a job as a request; its pictures are those of that job. */
function toSameRequest({ id, input: { image, mask, ...input } }: Job): CreateJobRequest {
  return { ...input, ...(image && { image: `job:${id}` }), ...(mask && { mask: `job:${id}` }) }
}

async function submitFrom(id: string, request: CreateJobRequest): Promise<Job | undefined> {
  showProblem(id, '')
  try {
    return await submit(withPreviews(request))
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    showProblem(id, `Not submitted: ${error.message}`)
    return undefined
  }
}

function withPreviews(request: CreateJobRequest): CreateJobRequest {
  return { ...request, preview_every: Math.max(1, Math.round((request.num_inference_steps ?? usualSteps) / previewsPerJob)) }
}

/** A text that is no number goes to the api as it is: it says best what it expects. */
function toRequest(from: Settings, model: string | undefined): CreateJobRequest {
  const numbers = Object.fromEntries(
    numberFields.filter((field) => from[field].trim() !== '').map((field) => [field, toNumber(from[field])]),
  )
  return {
    prompt: from.prompt,
    ...(from.negative_prompt.trim() !== '' && { negative_prompt: from.negative_prompt }),
    ...(model !== undefined && { model }),
    ...numbers,
    ...(from.seedFixed && from.seed.trim() !== '' && { seed: toNumber(from.seed) }),
  }
}

function toNumber(text: string): number {
  const number = Number(text)
  return Number.isNaN(number) ? (text as unknown as number) : number
}

function stored(): Settings {
  try {
    return { ...empty, ...(JSON.parse(localStorage.getItem(settingsName) ?? '{}') as Partial<Settings>) }
  } catch {
    return empty
  }
}
