/** Turns what zod found into sentences for whoever wrote the request. Pure. */
import type { z } from 'zod'
import type { FieldError } from '@easel/contract'

const typeNames: Record<string, string> = {
  int: 'an integer',
  number: 'a number',
  string: 'a string',
  boolean: 'true or false',
  array: 'an array',
  tuple: 'an array',
  object: 'an object',
}

/** `input` is what was parsed; the received values are looked up in it. */
export function toFieldErrors(error: z.ZodError, input: unknown): FieldError[] {
  return error.issues.flatMap((issue) => {
    if (issue.code !== 'unrecognized_keys')
      return [{ field: toField(issue.path), expected: toExpected(issue), received: describeValue(valueAt(input, issue.path)) }]
    return issue.keys.map((key) => {
      const path = [...issue.path, key]
      return { field: toField(path), expected: 'no field of this name', received: describeValue(valueAt(input, path)) }
    })
  })
}

function toField(path: readonly PropertyKey[]): string {
  return path.map((part) => shorten(String(part), 100)).join('.')
}

function toExpected(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return typeNames[issue.expected] ?? issue.expected
    case 'too_small':
      return `${issue.inclusive === false ? 'more than' : 'at least'} ${toAmount(issue.minimum, issue.origin)}`
    case 'too_big':
      return `${issue.inclusive === false ? 'less than' : 'at most'} ${toAmount(issue.maximum, issue.origin)}`
    case 'invalid_value':
      return `one of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`
    default:
      return issue.message
  }
}

function toAmount(amount: number | bigint, origin: string): string {
  if (origin === 'string') return `${amount} characters`
  return origin === 'array' ? `${amount} ${amount === 1 ? 'entry' : 'entries'}` : String(amount)
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

/** A value as it may stand in an error: short, and told apart from a missing one. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing'
  // JSON has no word for what 1e999 becomes.
  if (typeof value === 'number') return String(value)
  return shorten(JSON.stringify(value), 60)
}

function shorten(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`
}
