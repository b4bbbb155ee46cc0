/** Says in words what a schema expected of a value. Pure; knows nothing about files. */
import type { z } from 'zod'

const typeNames: Readonly<Record<string, string>> = {
  array: 'a list',
  boolean: 'true or false',
  int: 'an integer',
  number: 'a finite number',
  object: 'an object',
  record: 'an object',
  string: 'a string',
  tuple: 'a list',
}

export function describeExpected(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return typeNames[issue.expected] ?? issue.expected
    case 'too_small':
      return `${issue.inclusive === false ? 'above' : 'at least'} ${issue.minimum}${unitOf(issue.origin)}`
    case 'too_big':
      return `${issue.inclusive === false ? 'below' : 'at most'} ${issue.maximum}${unitOf(issue.origin)}`
    case 'invalid_value':
      return `${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map((value) => JSON.stringify(value)).join(', ')}`
    default:
      return `another value (${issue.message})`
  }
}

function unitOf(origin: string): string {
  if (origin === 'array') return ' entries'
  return origin === 'string' ? ' characters' : ''
}
