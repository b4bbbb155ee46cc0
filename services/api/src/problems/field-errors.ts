/** Turns zod's issues into messages for the author of the request. Pure. */
import { closestMatch } from 'leven'
import { z } from 'zod'
import { createJobRequestSchema } from '@easel/contract'
import type { FieldError } from '@easel/contract'

const typeNames: Record<string, string> = {
  int: 'an integer',
  integer: 'an integer',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'an array',
  tuple: 'an array',
  object: 'an object',
}

/** Other services' names for our fields, in lower case and without punctuation. */
const synonyms: Record<string, string> = {
  steps: 'num_inference_steps',
  numsteps: 'num_inference_steps',
  inferencesteps: 'num_inference_steps',
  cfg: 'guidance_scale',
  cfgscale: 'guidance_scale',
  guidance: 'guidance_scale',
  n: 'num_images_per_prompt',
  numimages: 'num_images_per_prompt',
  numoutputs: 'num_images_per_prompt',
  batchsize: 'num_images_per_prompt',
  format: 'output_format',
  quality: 'output_quality',
  outputcompression: 'output_quality',
  negative: 'negative_prompt',
  text: 'prompt',
  callbackurl: 'webhook',
  webhookurl: 'webhook',
  imagesize: 'size',
}

/** The most fields that an answer names, because a body may contain very many wrong ones. */
const mostErrors = 50

/**
 * `input` is the parsed body, in which received values are looked up. `known` lists the existing fields, from which the one that was meant is
 * suggested. There is one entry per field, for the first error found.
 */
export function toFieldErrors(error: z.core.$ZodError, input: unknown, known: readonly string[] = []): FieldError[] {
  const errors = new Map<string, FieldError>()
  for (const { path, expected } of toProblems(error, known)) {
    if (errors.size === mostErrors) break
    const field = toField(path)
    if (!errors.has(field)) errors.set(field, { field, expected, received: describeValue(valueAt(input, path)) })
  }
  return [...errors.values()]
}

function* toProblems(error: z.core.$ZodError, known: readonly string[]): Iterable<{ path: readonly PropertyKey[]; expected: string }> {
  for (const issue of error.issues) {
    if (issue.code !== 'unrecognized_keys') yield { path: issue.path, expected: toExpected(issue) }
    else for (const key of issue.keys) yield { path: [...issue.path, key], expected: toUnknown(issue.path.length === 0 ? key : '', known) }
  }
}

function toUnknown(key: string, known: readonly string[]): string {
  const meant = suggestField(key, known)
  return meant === undefined ? 'no field of this name' : `no field of this name; did you mean ${meant}?`
}

/** The field that was probably meant by an unknown one: the one that has this name in another service, or the one with the closest spelling. */
export function suggestField(key: string, known: readonly string[]): string | undefined {
  const word = key
    .slice(0, 100)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, '')
  const synonym = Object.hasOwn(synonyms, word) ? synonyms[word] : undefined
  if (synonym !== undefined && known.includes(synonym)) return synonym
  // Up to a third of the letters may differ; in a word of five letters two may, which allows for swapped letters.
  const spelt = new Map(known.map((field) => [field.replaceAll('_', ''), field]))
  const closest = closestMatch(word, [...spelt.keys()], { maxDistance: word.length === 5 ? 2 : Math.floor(word.length / 3) })
  return closest === undefined ? undefined : spelt.get(closest)
}

function toField(path: readonly PropertyKey[]): string {
  return path.map((part) => shorten(String(part), 100)).join('.')
}

function toExpected(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') return numberRange(issue.path) ?? typeNames[issue.expected] ?? issue.expected
  if (issue.code === 'too_small') return `${issue.inclusive === false ? 'more than' : 'at least'} ${toAmount(issue.minimum, issue.origin)}`
  if (issue.code === 'too_big') return `${issue.inclusive === false ? 'less than' : 'at most'} ${toAmount(issue.maximum, issue.origin)}`
  if (issue.code === 'invalid_value') return `one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`
  return issue.message
}

function toAmount(amount: number | bigint, origin: string): string {
  if (origin === 'string') return `${amount} ${amount === 1 ? 'character' : 'characters'}`
  return origin === 'array' ? `${amount} ${amount === 1 ? 'entry' : 'entries'}` : String(amount)
}

let jobRequest: z.core.JSONSchema.BaseSchema | undefined

/** The whole range of a numeric field in a job request; zod's issue about a wrong type does not contain it. */
function numberRange([field, ...rest]: readonly PropertyKey[]): string | undefined {
  jobRequest ??= z.toJSONSchema(z.object(createJobRequestSchema.shape), { io: 'input' })
  const schema =
    rest.length === 0 && Object.hasOwn(jobRequest.properties ?? {}, field ?? '') ? jobRequest.properties?.[String(field)] : undefined
  if (typeof schema !== 'object' || (schema.type !== 'integer' && schema.type !== 'number')) return undefined
  const { minimum, maximum = Number.MAX_SAFE_INTEGER, type } = schema
  // This maximum is as good as no limit, except for the seed, whose limit is named when it is exceeded.
  const range = maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`
  return `${typeNames[type]} ${range}`
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

/** A value for use in an error: short, and distinguishable from a missing one. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing'
  // JSON cannot represent what 1e999 becomes.
  if (typeof value === 'number') return String(value)
  return shorten(toJson(value), 60)
}

/** JSON.stringify fails on values nested deeper than the stack allows, which JSON.parse accepts. */
function toJson(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch (error) {
    if (error instanceof RangeError) return 'a value nested too deeply'
    throw error
  }
}

function shorten(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`
}
