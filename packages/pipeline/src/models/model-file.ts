/**
 * Reads the JSON files of a model folder and validates each before anything uses it.
 *
 * Invariant: what is returned fits the schema; anything else is a ModelFileError that names the file, the field, what was expected and what
 * was found. Knows nothing about which files a model has. Runs wherever a model is loaded.
 */
import { readFile, stat } from 'node:fs/promises'
import type { z } from 'zod'
import { describeExpected } from './describe-expected.ts'

/** A file of a model folder is missing or invalid. */
export class ModelFileError extends Error {
  override readonly name = 'ModelFileError'
  readonly file: string
  /** Dotted path of the field; empty when the file itself is meant. */
  readonly field: string

  constructor(file: string, field: string, expected: string, got: string, options?: ErrorOptions) {
    const [name, found] = [toPrintable(field, maxFieldLength), toPrintable(got, maxFoundLength)]
    super(`${file}: expected ${name === '' ? '' : `${name} to be `}${expected}, got ${found}`, options)
    this.file = file
    this.field = name
  }
}

/** Longer than any name of a tensor that a model needs. */
const maxFieldLength = 200
const maxFoundLength = 1000

/** Text from a file, made safe to print on one line: control characters escaped, and cut after `length` characters. */
function toPrintable(text: string, length: number): string {
  const short = text.length > length ? `${text.slice(0, length)}…` : text
  return short.replaceAll(/\p{Cc}|\p{Cf}/gu, (character) => `\\u${character.codePointAt(0)?.toString(16).padStart(4, '0')}`)
}

/** Larger than any configuration, index of shards or vocabulary. */
const maxTextBytes = 64 * 2 ** 20

/** The size of a file in bytes. Anything that is not a regular file is refused, because reading a pipe or a device may never end. */
export async function sizeOfFile(file: string): Promise<number> {
  const found = await stat(file)
  if (!found.isFile()) throw new Error(found.isDirectory() ? 'a folder' : 'something that is not a file')
  return found.size
}

/** The text of a file. */
export async function readModelText(file: string, kind = 'text'): Promise<string> {
  try {
    const bytes = await sizeOfFile(file)
    if (bytes > maxTextBytes) throw new Error(`${bytes} bytes, more than the ${maxTextBytes} that are read`)
    return await readFile(file, 'utf8')
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw new ModelFileError(file, '', `a readable ${kind} file`, missing ? 'no such file' : (error as Error).message, { cause: error })
  }
}

/** The content of a JSON file, as the schema returns it. */
export async function readModelJson<Schema extends z.ZodType>(file: string, schema: Schema): Promise<z.output<Schema>> {
  const text = await readModelText(file, 'JSON')
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new ModelFileError(file, '', 'JSON', (error as Error).message, { cause: error })
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  if (issue === undefined) throw new ModelFileError(file, '', 'another content', describeValue(json))
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') throw new ModelFileError(file, path, 'known fields only', issue.keys.join(', '))
  throw new ModelFileError(file, path, describeExpected(issue), describeValue(valueAt(json, issue.path)))
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  let value = json
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key]
  return value
}

/** A value of a file, in the first characters of its JSON. */
export function describeValue(value: unknown, length = 80): string {
  if (value === undefined) return 'nothing'
  // JSON has no infinity, but a number too large for a double is read as one.
  if (typeof value === 'number') return String(value)
  try {
    const text = JSON.stringify(value)
    return text.length > length ? `${text.slice(0, length)}…` : text
  } catch {
    return 'lists or objects within each other, too deep to be written'
  }
}
