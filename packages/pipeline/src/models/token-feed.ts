/** Rows of token ids as one feed; the session converts them to the graph's integer type. Knows nothing about tokenizers. */
import type { Feed } from './onnx-session.ts'

/** (rows, length); all rows must have one length. */
export function toTokenFeed(ids: readonly (readonly number[])[]): Feed {
  const length = ids[0]?.length ?? 0
  const odd = ids.find((row) => row.length !== length)
  if (odd !== undefined) throw new RangeError(`Expected rows of ${length} token ids, got one of ${odd.length}`)
  return { data: Int32Array.from(ids.flat()), dims: [ids.length, length] }
}
