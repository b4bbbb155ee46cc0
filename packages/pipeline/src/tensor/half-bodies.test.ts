/** The operators of float16 with V8's own instructions for it: everything that holds with the plain ones. */
import { expect, test } from 'vitest'
import { allowHalfInstructions, usesHalfInstructions } from './float16-kernels.ts'

// This has to come before anything is computed.
allowHalfInstructions()
await import('./float16.test.ts')

test('V8’s own instructions for float16 are in use where the process allows them', () => {
  expect(usesHalfInstructions()).toBe(true)
})
