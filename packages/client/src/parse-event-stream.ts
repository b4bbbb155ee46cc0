/** Parses server-sent events as the HTML standard specifies (9.2.6, "Interpreting an event stream"). Knows nothing about jobs. */

export interface StreamMessage {
  /** The id of the last event that had one; empty when none had. */
  id: string
  event: string
  data: string
}

export interface EventStreamOptions {
  /** Called whenever bytes arrive, including comments. */
  onBytes: () => void
  /** Called when the stream says how many milliseconds to wait before reconnecting. */
  onRetry: (ms: number) => void
}

/** An event that is incomplete when the stream ends is dropped. */
export async function* parseEventStream(
  body: ReadableStream<Uint8Array>,
  { onBytes, onRetry }: EventStreamOptions,
): AsyncGenerator<StreamMessage> {
  let id = ''
  let event = ''
  let data: string[] = []
  for await (const line of readLines(body, onBytes)) {
    if (line === '') {
      if (data.length > 0) yield { id, event: event === '' ? 'message' : event, data: data.join('\n') }
      event = ''
      data = []
      continue
    }
    const [, field = '', value = ''] = /^([^:]*):? ?([^]*)$/.exec(line) ?? []
    if (field === 'data') data.push(value)
    else if (field === 'event') event = value
    else if (field === 'id' && !value.includes('\0')) id = value
    else if (field === 'retry' && /^\d+$/.test(value)) onRetry(Number(value))
  }
}

/** Lines that end with LF, CR LF or CR. Text after the last of these is not a line. */
async function* readLines(body: ReadableStream<Uint8Array>, onBytes: () => void): AsyncGenerator<string> {
  // Not `for await`: Safari's streams cannot be iterated. The decoder drops a byte order mark.
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    onBytes()
    // A CR at the end of a chunk may be half of a CR LF, so it waits for the next chunk.
    const lines = (rest + decoder.decode(read.value, { stream: true })).split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    yield* lines
  }
  if (rest.endsWith('\r')) yield rest.slice(0, -1)
}
