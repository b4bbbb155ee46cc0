import { expect, it } from 'vitest'
import { toBucket } from './t5-encoder-graph.ts'

/** Expected: what T5Attention._relative_position_bucket of transformers 5.24 gives for the distances -40, -36 … 40. */
it.each([
  [32, 128, [12, 12, 12, 11, 11, 10, 10, 9, 8, 4, 0, 20, 24, 25, 26, 26, 27, 27, 28, 28, 28]],
  [10, 30, [4, 4, 4, 4, 4, 4, 4, 3, 3, 2, 0, 7, 8, 8, 9, 9, 9, 9, 9, 9, 9]],
  [7, 9, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]],
  [6, 20, [2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5]],
])('%i buckets up to a distance of %i are those of transformers', (buckets, distance, expected) => {
  const config = { relative_attention_num_buckets: buckets, relative_attention_max_distance: distance }
  expect(expected.map((_, index) => toBucket((index - 10) * 4, config))).toEqual(expected)
})
