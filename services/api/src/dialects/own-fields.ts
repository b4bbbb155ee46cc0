/**
 * The fields of a job request that a dialect accepts under our names, in addition to those for which it has its own. A field added to the
 * contract thereby becomes a field of every dialect. Pure.
 */
import type { z } from '@hono/zod-openapi'
import { generationFields } from '@easel/contract'

type GenerationFields = typeof generationFields
type OwnFields<Named extends keyof GenerationFields> = {
  [Field in Exclude<keyof GenerationFields, Named>]: z.ZodNullable<GenerationFields[Field]>
}

/** All fields that say which picture to make, except the named ones; null counts as absent. */
export function ownFields<Named extends keyof GenerationFields>(named: readonly Named[]): OwnFields<Named> {
  const isNamed = (field: string): boolean => (named as readonly string[]).includes(field)
  const own = Object.entries(generationFields).filter(([field]) => !isNamed(field))
  return Object.fromEntries(own.map(([field, schema]) => [field, (schema as z.ZodType).nullable()])) as OwnFields<Named>
}

/** Treats null fields as absent, for services whose clients may send either. */
export function dropNulls<T extends object>(body: T): { [K in keyof T]: Exclude<T[K], null> } {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], null>
  }
}
