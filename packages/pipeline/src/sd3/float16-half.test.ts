/** The pipeline on a float16 model with V8's own instructions for float16: everything that holds with the plain ones. */
import { expect, it } from 'vitest'
import { allowHalfInstructions, usesHalfInstructions } from '../tensor/float16-kernels.ts'

allowHalfInstructions()
await import('./float16.test.ts')

it('V8’s own instructions for float16 are in use', () => {
  expect(usesHalfInstructions()).toBe(true)
})
