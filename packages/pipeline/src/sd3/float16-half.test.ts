/** The pipeline on a float16 model in V8's own instructions for float16: all that holds with the plain ones. */
import { expect, it } from 'vitest'
import { allowHalfInstructions, usesHalfInstructions } from '../tensor/float16-kernels.ts'

allowHalfInstructions()
await import('./float16.test.ts')

it('uses them', () => {
  expect(usesHalfInstructions()).toBe(true)
})
