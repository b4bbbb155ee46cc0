/** The operators of float16 in V8's own instructions for it: everything that holds for the plain ones. */
import { expect, test } from 'vitest'
import { allowHalfInstructions, usesHalfInstructions } from './float16-kernels.ts'

// Before anything is computed.
allowHalfInstructions()
await import('./float16.test.ts')

test('are used where the process allows them', () => {
  expect(usesHalfInstructions()).toBe(true)
})
