/** Translates a job's input into the engine's parameters, which have the same names in camelCase. Pure. */
import { jobInputSchema } from '@easel/contract'
import type { JobInput } from '@easel/contract'
import type { EngineParams, FieldElsewhere, StartFromPicture } from '../engine/protocol.ts'

/** The compiler reports a field that is neither here nor a parameter of the library, which would refuse it. */
const elsewhere: Readonly<Record<FieldElsewhere, true>> = {
  model: true,
  image: true,
  mask: true,
  strength: true,
  fit: true,
  output_format: true,
  output_quality: true,
}
/** The fields, each under its own name and the engine's. */
const fields = (Object.keys(jobInputSchema.shape) as (keyof JobInput)[])
  .filter((field) => !(field in elsewhere))
  .map((field) => [field, toCamelCase(field)] as const)

/** `start`: the pictures of the input, in the job's size. */
export function toEngineParams(input: JobInput, start?: StartFromPicture): EngineParams {
  const params: Record<string, unknown> = {}
  for (const [field, name] of fields) if (input[field] !== undefined) params[name] = input[field]
  if (start !== undefined) params['start'] = start
  return params as EngineParams
}

function toCamelCase(field: string): string {
  return field.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())
}
