import { describe, expect, test } from 'vitest'
import { parseEventStream, type StreamMessage } from './parse-event-stream.ts'

/** Reads a stream that arrives in these pieces. */
async function parse(...chunks: (string | Uint8Array)[]): Promise<{ messages: StreamMessage[]; retries: number[]; pieces: number }> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk)
      controller.close()
    },
  })
  const retries: number[] = []
  let pieces = 0
  const messages = await Array.fromAsync(parseEventStream(body, { onBytes: () => pieces++, onRetry: (ms) => retries.push(ms) }))
  return { messages, retries, pieces }
}

const text =
  '\uFEFFretry: 1000\n\n: a comment\nid: 1-0\nevent: progress\ndata: {"step":1,\ndata:"é":"🚤"}\n\nevent: queue\ndata: 2\n\nid: 1-1\ndata\n\n'
const expected: StreamMessage[] = [
  { id: '1-0', event: 'progress', data: '{"step":1,\n"é":"🚤"}' },
  { id: '1-0', event: 'queue', data: '2' },
  { id: '1-1', event: 'message', data: '' },
]

describe('a stream of events', () => {
  test('is read the same way however it is cut into pieces', async () => {
    const bytes = new TextEncoder().encode(text)
    for (let at = 1; at < bytes.length; at++) {
      const { messages, retries, pieces } = await parse(bytes.subarray(0, at), bytes.subarray(at))
      expect({ messages, retries, pieces }).toEqual({ messages: expected, retries: [1000], pieces: 2 })
    }
    const { messages } = await parse(...Array.from(bytes, (byte) => Uint8Array.of(byte)))
    expect(messages).toEqual(expected)
  })

  test.each(['\r\n', '\r'])('may end its lines with %j, in one piece and in many', async (end) => {
    const other = text.replaceAll('\n', end)
    expect((await parse(other)).messages).toEqual(expected)
    const bytes = Array.from(new TextEncoder().encode(other), (byte) => Uint8Array.of(byte))
    expect((await parse(...bytes)).messages).toEqual(expected)
  })

  test('loses only the event in which it breaks off', async () => {
    expect((await parse(`${text}id: 1-2\ndata: half`)).messages).toEqual(expected)
    expect((await parse(`${text}id: 1-2\ndata: whole but not ended\n`)).messages).toEqual(expected)
  })

  test('may have fields without a meaning, which are ignored', async () => {
    const { messages, retries } = await parse('unknown: x\nid: a\0b\nretry: soon\ndata:  one space stays\n\n\n\nevent: nothing\n\n')
    expect(messages).toEqual([{ id: '', event: 'message', data: ' one space stays' }])
    expect(retries).toEqual([])
  })
})
