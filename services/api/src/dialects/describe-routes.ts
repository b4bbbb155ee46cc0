/** Descriptions that the routes of several dialects share, for /openapi.json. */
import { z } from '@hono/zod-openapi'

/** A model as these services name it, with an owner. */
export const modelParams = z.object({
  owner: z
    .string()
    .max(100)
    .meta({ description: '`local` for a model without an owner.', examples: ['local'] }),
  name: z
    .string()
    .max(100)
    .meta({ examples: ['tiny-scenes'] }),
})

const unauthorized = 'A valid API key is required.'
const refusals = {
  401: unauthorized,
  422: 'The input is refused, or there is no such model.',
  429: 'Too many requests, or too many jobs are waiting.',
  503: 'No worker or Redis can be reached.',
}
const absences = { 401: unauthorized, 404: 'There is nothing here.', 410: 'Past the retention time.' }

interface ErrorResponse<Schema extends z.ZodType> {
  description: string
  content: { 'application/json': { schema: Schema } }
}
type ErrorResponses<Schema extends z.ZodType, Status extends number> = Record<Status, ErrorResponse<Schema>>

/** The errors, in the dialect's own shape, of routes that make a job and of routes that ask for one. */
export function describeErrors<Schema extends z.ZodType>(schema: Schema) {
  const describe = <Status extends number>(descriptions: Readonly<Record<Status, string>>) =>
    Object.fromEntries(
      Object.entries<string>(descriptions).map(([status, description]) => [
        status,
        { description, content: { 'application/json': { schema } } },
      ]),
    ) as ErrorResponses<Schema, Status>
  return { refusals: describe(refusals), absences: describe(absences) }
}
