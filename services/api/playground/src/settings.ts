/**
 * Owns what stands in the form: texts as they were typed, kept over a reload, and the request made of them. The api judges them; the
 * form only leaves out what was left empty. Runs in the browser.
 */
import { effect, signal } from '@preact/signals'
import type { CreateJobRequest, FieldError, Job, JobInput } from '@easel/contract'
import { ApiError } from './api.ts'
import { submit } from './jobs.ts'

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

/** Whether the api took it. */
export async function submitSettings(): Promise<boolean> {
  return await submitRequest(toRequest(settings.value))
}

/** The same picture as one of a job, from a seed that the job has not used. */
export async function submitVariation({ id, input: { image, mask, ...input } }: Job, seed: number): Promise<boolean> {
  const pictures = { ...(image && { image: `job:${id}` }), ...(mask && { mask: `job:${id}` }) }
  return await submitRequest({ ...input, ...pictures, num_images_per_prompt: 1, seed: seed + input.num_images_per_prompt })
}

async function submitRequest(request: CreateJobRequest): Promise<boolean> {
  fieldErrors.value = []
  formProblem.value = ''
  const previewEvery = Math.max(1, Math.round((request.num_inference_steps ?? usualSteps) / previewsPerJob))
  try {
    const job = await submit({ ...request, preview_every: previewEvery })
    lastSeed.value = job.input.seed
    return true
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    fieldErrors.value = error.errors
    const known = error.errors.filter(({ field }) => fields.includes(field as Field))
    const told = error.status === 401 || (known.length > 0 && known.length === error.errors.length)
    if (!told) formProblem.value = error.message
    return false
  }
}

/** A text that is no number goes to the api as it is: it says best what it expects. */
function toRequest(from: Settings): CreateJobRequest {
  const numbers = Object.fromEntries(
    numberFields.filter((field) => from[field].trim() !== '').map((field) => [field, toNumber(from[field])]),
  )
  return {
    prompt: from.prompt,
    ...(from.negative_prompt.trim() !== '' && { negative_prompt: from.negative_prompt }),
    ...(from.model !== '' && { model: from.model }),
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
