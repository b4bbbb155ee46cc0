/**
 * Owns the content of the form: texts as they were typed, which survive a reload, and the request made from them. The api validates them;
 * the form only omits what was left empty. Runs in the browser.
 */
import { computed, effect, signal } from '@preact/signals'
import { EaselError, type FieldError, type Job } from '@easel/client'
import type { CreateJobRequest } from '@easel/contract'
import { remove, showProblem, submit } from './jobs.ts'
import { clearMask, uploadMask } from './mask.ts'
import { defaultModel, models, type Model } from './models.ts'

export interface ChosenLora {
  id: string
  /** Every text is as it was typed; an empty one means the api's default. */
  scale: string
}

/** The names are the api's, so that an error can be shown at its field. Numbers are kept as text, because the api validates what was typed. */
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
  /** Numbers, separated by commas. */
  skip_guidance_layers: string
  skip_layer_guidance_scale: string
  skip_layer_guidance_start: string
  skip_layer_guidance_stop: string
  /** Only sent with a picture. */
  strength: string
  loras: readonly ChosenLora[]
  /** Whether `seed` is used; otherwise the api draws one. */
  seedFixed: boolean
  /** Whether the size is given in pixels. */
  sizeOpen: boolean
  advancedOpen: boolean
  /** The picture to begin with, and those settings of a reused job for which the form has no field; they are sent as they are. */
  also: Partial<CreateJobRequest>
}

export type Field = Exclude<keyof Settings, 'loras' | 'seedFixed' | 'sizeOpen' | 'advancedOpen' | 'also'>
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
  'skip_guidance_layers',
  'skip_layer_guidance_scale',
  'skip_layer_guidance_start',
  'skip_layer_guidance_stop',
  'strength',
]

const numberFields = ['width', 'height', 'num_inference_steps', 'guidance_scale', 'num_images_per_prompt'] as const
const skipFields = ['skip_layer_guidance_scale', 'skip_layer_guidance_start', 'skip_layer_guidance_stop'] as const
const settingsName = 'easel.settings'
/** About how many previews a job gets. */
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
  skip_guidance_layers: '',
  skip_layer_guidance_scale: '',
  skip_layer_guidance_start: '',
  skip_layer_guidance_stop: '',
  strength: '',
  loras: [],
  seedFixed: false,
  sizeOpen: false,
  advancedOpen: false,
  also: {},
}

export const settings = signal<Settings>(stored())
export const fieldErrors = signal<readonly FieldError[]>([])
/** A problem that does not belong to a single field of the form. */
export const formProblem = signal('')

/** Whether a request of the form is under way. */
export const submitting = signal(false)
/** The model that is shown and sent: the chosen one as long as it is served, and otherwise the server's default. */
export const chosenModel = computed(() => models.value.find(({ id }) => id === settings.value.model) ?? defaultModel.value)

effect(() => localStorage.setItem(settingsName, JSON.stringify(settings.value)))

export function set(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change }
  fieldErrors.value = fieldErrors.value.filter(({ field }) => !(toListField(field) in change))
}

/** Puts every setting of a job into the form; those without a field are kept in `also`. */
export function reuse(job: Job): void {
  const request = toSameRequest(job)
  const texts = Object.fromEntries(
    fields.map((field) => [
      field,
      request[field] === undefined ? '' : Array.isArray(request[field]) ? request[field].join(', ') : String(request[field]),
    ]),
  )
  const usual: Partial<CreateJobRequest> = {
    output_format: 'png',
    max_sequence_length: models.value.find(({ id }) => id === job.input.model)?.defaults.max_sequence_length,
  }
  const also = Object.entries(request).filter(
    ([field, value]) => field !== 'loras' && !fields.includes(field as Field) && value !== usual[field as keyof CreateJobRequest],
  )
  const loras = (request.loras ?? []).map(({ id, scale }) => ({ id, scale: scale === undefined ? '' : String(scale) }))
  const { advancedOpen } = settings.value
  settings.value = { ...empty, ...texts, loras, seedFixed: true, advancedOpen, also: Object.fromEntries(also) }
  clearMask()
  fieldErrors.value = []
}

/** Names of the settings that are sent but shown nowhere else. */
export function unshownAlso(): string[] {
  return Object.keys(settings.value.also).filter((field) => field !== 'image' && field !== 'mask')
}

export function clearAlso(): void {
  const { image, mask } = settings.value.also
  set({ also: { ...(image && { image }), ...(mask && { mask }) } })
}

/** Begins with another picture, at its own size, or with none. Settings that belonged to the previous one are dropped. */
export function setInputPicture(image: string | undefined): void {
  const { image: _image, mask: _mask, fit: _fit, ...others } = settings.value.also
  clearMask()
  set({ width: '', height: '', sizeOpen: false, also: { ...others, ...(image !== undefined && { image }) } })
}

/** Submits the same job again and removes the old one. A problem is shown at the old one. */
export async function retry(job: Job): Promise<void> {
  if ((await submitFrom(job.id, toSameRequest(job))) !== undefined) await remove(job.id)
}

/** Submits the form, one request at a time. Returns the job, or undefined when it was refused; the form then says why. */
export async function submitSettings(): Promise<Job | undefined> {
  if (submitting.value) return undefined
  submitting.value = true
  fieldErrors.value = []
  formProblem.value = ''
  try {
    const mask = chosenModel.value?.accepts.mask === true && settings.value.also.image !== undefined ? await uploadMask() : undefined
    return await submit(withPreviews({ ...toRequest(settings.value, chosenModel.value), ...(mask !== undefined && { mask }) }))
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    // An error in an entry of a list is shown at the list's field if the entries have no fields of their own.
    fieldErrors.value = error.errors.map((wrong) => (isOfLoras(wrong.field) ? wrong : { ...wrong, field: toListField(wrong.field) }))
    const known = fieldErrors.value.filter(({ field }) => fields.includes(field as Field) || isOfLoras(field))
    const told = error.status === 401 || (known.length > 0 && known.length === error.errors.length)
    if (fieldErrors.value.some(({ field }) => field === 'width' || field === 'height')) set({ sizeOpen: true })
    if (!told) formProblem.value = error.message
    return undefined
  } finally {
    submitting.value = false
  }
}

/** Submits the settings of a job with the first seed that the job has not used. A problem is shown at that job. */
export async function submitVariation(job: Job, seed: number): Promise<Job | undefined> {
  const { id, input } = job
  return await submitFrom(id, { ...toSameRequest(job), num_images_per_prompt: 1, seed: seed + input.num_images_per_prompt })
}

/** The whole input of a job as a request; its pictures are named by that job. */
export function toSameRequest({ id, input: { image, mask, ...input } }: Job): CreateJobRequest {
  return { ...input, ...(image && { image: `job:${id}` }), ...(mask && { mask: `job:${id}` }) }
}

async function submitFrom(id: string, request: CreateJobRequest): Promise<Job | undefined> {
  showProblem(id, '')
  try {
    return await submit(withPreviews(request))
  } catch (error) {
    if (!(error instanceof EaselError)) throw error
    showProblem(id, `Not submitted: ${error.message}`)
    return undefined
  }
}

function withPreviews(request: CreateJobRequest): CreateJobRequest {
  return { ...request, preview_every: Math.max(1, Math.round((request.num_inference_steps ?? usualSteps) / previewsPerJob)) }
}

/** A text that is not a number is sent as it is, because the api explains best what it expects. */
function toRequest(from: Settings, model: Model | undefined): CreateJobRequest {
  const { image, mask, fit, ...also } = from.also
  const isTaken = image !== undefined && model?.accepts.image === true
  const layers = from.skip_guidance_layers.trim()
  return {
    ...also,
    ...(isTaken && { image, ...(mask && { mask }), ...(fit && { fit }), ...toNumbers(from, ['strength']) }),
    prompt: from.prompt,
    ...(from.negative_prompt.trim() !== '' && { negative_prompt: from.negative_prompt }),
    ...(model !== undefined && { model: model.id }),
    ...toNumbers(from, numberFields),
    ...(from.seedFixed && from.seed.trim() !== '' && { seed: toNumber(from.seed) }),
    ...(from.loras.length > 0 && {
      loras: from.loras.map(({ id, scale }) => ({ id, ...(scale.trim() !== '' && { scale: toNumber(scale) }) })),
    }),
    ...(layers !== '' && { skip_guidance_layers: layers.split(/[\s,]+/).map(toNumber), ...toNumbers(from, skipFields) }),
  }
}

/** Maps `loras.0.scale` to `loras`. */
function toListField(field: string): string {
  return field.split('.')[0] ?? ''
}

export function isOfLoras(field: string): boolean {
  return toListField(field) === 'loras'
}

function toNumbers(from: Settings, names: readonly Field[]): Record<string, number> {
  return Object.fromEntries(names.filter((name) => from[name].trim() !== '').map((name) => [name, toNumber(from[name])]))
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
