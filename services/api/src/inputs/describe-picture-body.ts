/**
 * Describes request bodies with files for the OpenAPI document. They are plain schemas, which the framework shows but does not validate: it would
 * read a whole form before its size has been checked. Pure.
 */
import { z } from '@hono/zod-openapi'
import { inputContentTypes } from '@easel/contract'

/** `schema`: its fields; files are `z.file()`. `example`: its text, and the name of a file for each of these. */
export function describeForm(schema: z.ZodObject, example: Record<string, unknown>) {
  const { $schema: _, ...described } = z.toJSONSchema(schema, { io: 'input' }) as Record<string, unknown>
  return { 'multipart/form-data': { schema: described, example } }
}

/** The picture itself as the body. */
export function describePicture() {
  return Object.fromEntries(inputContentTypes.map((type) => [type, { schema: { type: 'string', format: 'binary' } as const }]))
}
