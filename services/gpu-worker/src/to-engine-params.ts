/** Translates a job's input into the engine's parameters, which have the same names in camelCase. Pure. */
import { jobInputSchema } from '@easel/contract'
import type { JobInput } from '@easel/contract'
import type { EngineParams, FieldElsewhere, StartFromPicture } from './engine/protocol.ts'

/** The compiler reports a field that is neither here nor a parameter of the library, where it would be refused. */
const elsewhere: Readonly<Record<FieldElsewhere, true>> = {
  model: true,
  image: true,
  mask: true,
  strength: true,
  fit: true,
  output_format: true,
  output_quality: true,
}
const fields = (Object.keys(jobInputSchema.shape) as (keyof JobInput)[]).filter((field) => !(field in elsewhere))

/** `start`: the pictures of the input, in the job's size. */
export function toEngineParams(input: JobInput, start?: StartFromPicture): EngineParams {
  const given = fields.filter((field) => input[field] !== undefined)
  const params = Object.fromEntries(given.map((field): [string, unknown] => [toCamelCase(field), input[field]]))
  return (start === undefined ? params : { ...params, start }) as EngineParams
}

function toCamelCase(field: string): string {
  return field.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())
}
