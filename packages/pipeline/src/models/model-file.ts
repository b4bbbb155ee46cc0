/**
 * Reads the JSON files of a model folder and validates each before anything uses it.
 *
 * Invariant: what is returned fits the schema; anything else is a ModelFileError that names the file, the field, what was expected and what
 * was found. Knows nothing about which files a model has. Runs wherever a model is loaded.
 */
import { readFile, stat } from 'node:fs/promises'
import type { z } from 'zod'

/** A file of a model folder is missing or invalid. */
export class ModelFileError extends Error {
  override readonly name = 'ModelFileError'
  readonly file: string
  /** Dotted path of the field; empty when the file itself is meant. */
  readonly field: string

  constructor(file: string, field: string, expected: string, got: string, options?: ErrorOptions) {
    super(`${file}: expected ${field === '' ? '' : `${field} to be `}${expected}, got ${got}`, options)
    this.file = file
    this.field = field
  }
}

/** Larger than any configuration, index of shards or vocabulary. */
const maxJsonBytes = 64 * 2 ** 20

/** The size of a file in bytes. Anything that is not a regular file is refused, because reading a pipe or a device may never end. */
export async function sizeOfFile(file: string): Promise<number> {
  const found = await stat(file)
  if (!found.isFile()) throw new Error(found.isDirectory() ? 'a folder' : 'something that is not a file')
  return found.size
}

/** The content of a JSON file, as the schema returns it. */
export async function readModelJson<Schema extends z.ZodType>(file: string, schema: Schema): Promise<z.output<Schema>> {
  let text: string
  try {
    const bytes = await sizeOfFile(file)
    if (bytes > maxJsonBytes) throw new Error(`${bytes} bytes, more than the ${maxJsonBytes} that are read`)
    text = await readFile(file, 'utf8')
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw new ModelFileError(file, '', 'a readable JSON file', missing ? 'no such file' : (error as Error).message, {
      cause: error,
    })
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new ModelFileError(file, '', 'JSON', (error as Error).message, { cause: error })
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const path = issue?.path ?? []
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.join(', ') : undefined
  if (unknown !== undefined) throw new ModelFileError(file, path.join('.'), 'known fields only', unknown)
  const expected = (issue?.message ?? 'another value').replace(/^[^:]*: expected /, '').replace(/, received .*$/, '')
  throw new ModelFileError(file, path.join('.'), expected, describeValue(valueAt(json, path)))
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  let value = json
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key]
  return value
}

function describeValue(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
