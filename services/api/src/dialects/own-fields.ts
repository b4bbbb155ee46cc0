/**
 * The fields of a job request that a dialect takes by our names, beside those it has words of its own for. A field that is added to the
 * contract is a field of every dialect with that. Pure.
 */
import type { z } from '@hono/zod-openapi'
import { generationFields } from '@easel/contract'

type GenerationFields = typeof generationFields
type OwnFields<Named extends keyof GenerationFields> = {
  [Field in Exclude<keyof GenerationFields, Named>]: z.ZodNullable<GenerationFields[Field]>
}

/** All fields that say what picture to make, but for the named ones; null is absent. */
export function ownFields<Named extends keyof GenerationFields>(named: readonly Named[]): OwnFields<Named> {
  const isNamed = (field: string): boolean => (named as readonly string[]).includes(field)
  const own = Object.entries(generationFields).filter(([field]) => !isNamed(field))
  return Object.fromEntries(own.map(([field, schema]) => [field, (schema as z.ZodType).nullable()])) as OwnFields<Named>
}

/** Fields that are null are absent to services whose clients may send either. */
export function dropNulls<T extends object>(body: T): { [K in keyof T]: Exclude<T[K], null> } {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], null>
  }
}
