/** Reads server-sent events as a client does, for tests. */

export interface ReceivedEvent {
  id: string
  event: string
  data: unknown
}

/** Comments become events named `:`. `queue` events, which depend on the clock, are left out unless `queue` is set. */
export async function* readEvents(response: Response, { queue = false } = {}): AsyncGenerator<ReceivedEvent> {
  if (response.body === null) throw new Error('Expected a body, got none')
  let text = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    text += chunk
    const blocks = text.split('\n\n')
    text = blocks.pop() ?? ''
    for (const block of blocks) {
      const fields = new Map<string, string>(
        block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
      )
      if (fields.has('')) yield { id: '', event: ':', data: fields.get('') }
      const data = fields.get('data')
      if (fields.get('event') === 'queue' && !queue) continue
      if (data !== undefined) yield { id: fields.get('id') ?? '', event: fields.get('event') ?? '', data: JSON.parse(data) as unknown }
    }
  }
}
