import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, LookupFunction } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { postMessage } from './post-message.ts'
import type { PostOptions, PostResult } from './post-message.ts'

const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }
})

interface Receiver {
  port: number
  url: string
  requests: { method: string; path: string; headers: IncomingMessage['headers']; body: string }[]
  /** The number of TCP connections so far, with or without a request. */
  connections: () => number
}

async function startReceiver(answer: (response: ServerResponse) => void, host = '127.0.0.1'): Promise<Receiver> {
  const requests: Receiver['requests'] = []
  let connections = 0
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      requests.push({ method: request.method ?? '', path: request.url ?? '', headers: request.headers, body })
      answer(response)
    })
  })
  server.on('connection', () => connections++)
  server.listen(0, host)
  servers.push(server)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { port, url: `http://127.0.0.1:${port}/hook?x=1`, requests, connections: () => connections }
}

const post = (url: string, over: Partial<PostOptions> = {}): Promise<PostResult> =>
  postMessage({
    url,
    headers: { 'webhook-id': 'msg_1' },
    body: '{"ä":1}',
    allowInsecure: true,
    timeoutMs: 5000,
    signal: new AbortController().signal,
    ...over,
  })

/** Resolves any name to these addresses: one list for each lookup, and the last list for all further ones. */
function lookupOf(...answers: { address: string; family: number }[][]): { lookup: LookupFunction; calls: () => number } {
  let calls = 0
  const lookup: LookupFunction = (_host, options, callback) => {
    const addresses = answers[Math.min(calls++, answers.length - 1)] ?? []
    const [first] = addresses
    if (options.all === true) callback(null, addresses)
    else callback(null, first?.address ?? '', first?.family)
  }
  return { lookup, calls: () => calls }
}

describe('posting a message', () => {
  test('sends the body once as JSON, with the headers', async () => {
    const receiver = await startReceiver((response) => response.end('thanks'))
    expect(await post(receiver.url)).toEqual({ status: 200, retryAfter: undefined, error: null })
    expect(receiver.requests).toHaveLength(1)
    expect(receiver.requests[0]).toMatchObject({
      method: 'POST',
      path: '/hook?x=1',
      body: '{"ä":1}',
      headers: { 'webhook-id': 'msg_1', 'content-type': 'application/json', 'content-length': '8' },
    })
  })

  test('calls the URL in the form that was judged, whatever white space it was written with', async () => {
    const receiver = await startReceiver((response) => response.end())
    expect(await post(` \n${receiver.url.replace('hook', 'ho\tok')}`)).toMatchObject({ status: 200 })
    expect(receiver.requests[0]).toMatchObject({ path: '/hook?x=1' })
  })

  test.each([301, 302, 303, 307, 308])('does not follow a redirect with status %i', async (status) => {
    const target = await startReceiver((response) => response.end())
    const receiver = await startReceiver((response) => response.writeHead(status, { Location: target.url }).end())
    expect(await post(receiver.url)).toMatchObject({ status, error: null })
    expect(target.connections()).toBe(0)
  })

  test('returns what the receiver asked for in Retry-After', async () => {
    const receiver = await startReceiver((response) => response.writeHead(503, { 'Retry-After': '7' }).end())
    expect(await post(receiver.url)).toEqual({ status: 503, retryAfter: '7', error: null })
  })

  test('gives up on a receiver that never answers', async () => {
    const receiver = await startReceiver(() => {})
    expect(await post(receiver.url, { timeoutMs: 100 })).toEqual({ status: null, retryAfter: undefined, error: 'no answer within 0.1 s' })
  })

  test('returns the status of a receiver whose answer never ends, and reads no more of it than a limit', async () => {
    const dripping = await startReceiver((response) => response.writeHead(200).write('a'))
    // On a busy machine even the status may arrive too late once.
    await expect.poll(() => post(dripping.url, { timeoutMs: 300 })).toMatchObject({ status: 200 })
    let sent = 0
    const endless = await startReceiver((response) => {
      const chunk = Buffer.alloc(65_536)
      const pour = (): void => {
        do sent += chunk.length
        while (!response.destroyed && response.write(chunk))
      }
      response.on('drain', pour)
      pour()
    })
    expect(await post(endless.url, { timeoutMs: 60_000 })).toMatchObject({ status: 200 })
    expect(sent).toBeLessThan(64 * 1024 * 1024)
  })

  test('says what went wrong without revealing addresses', async () => {
    const closing = await startReceiver((response) => response.destroy())
    expect(await post(closing.url)).toMatchObject({ status: null, error: 'connection closed without an answer' })
    const gone = await startReceiver(() => {})
    servers.splice(-1)[0]?.close()
    expect(await post(gone.url)).toMatchObject({ status: null, error: 'connection refused' })
    expect((await post('https://127.0.0.1:' + closing.port)).error).toMatch(/^connection failed: [A-Z_]+$/)
  })

  test('is not kept waiting by a receiver that switches to another protocol', async () => {
    const switching = await startReceiver((response) => {
      response.socket?.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n')
    })
    expect(await post(switching.url)).toMatchObject({ status: null, error: 'connection closed without an answer' })
  })

  test('rejects with the reason when the api stops', async () => {
    const receiver = await startReceiver(() => {})
    const stop = new AbortController()
    const posted = post(receiver.url, { signal: stop.signal, timeoutMs: 600_000 })
    // Handled here, because it rejects before the test gets to the end.
    const outcome = posted.catch((error: unknown) => String(error))
    await expect.poll(() => receiver.requests.length).toBe(1)
    stop.abort(new Error('stopping'))
    expect(await outcome).toBe('Error: stopping')
  })
})

describe('a receiver that is not public', () => {
  const secure = { allowInsecure: false }

  test('is refused by its address before anything is sent', async () => {
    const receiver = await startReceiver((response) => response.end())
    for (const host of ['127.0.0.1', '[::ffff:127.0.0.1]', 'localhost', '0.0.0.0']) {
      expect(await post(`https://${host}:${receiver.port}/`, secure)).toEqual({
        status: null,
        retryAfter: undefined,
        error: 'expected a URL with a public host',
      })
    }
    expect(await post(receiver.url, secure)).toMatchObject({ error: 'expected an https:// URL' })
    expect(receiver.connections()).toBe(0)
  })

  test.each([
    [[{ address: '127.0.0.1', family: 4 }]],
    [[{ address: '169.254.169.254', family: 4 }]],
    [[{ address: '100.64.1.1', family: 4 }]],
    [[{ address: '168.63.129.16', family: 4 }]],
    [[{ address: '::1', family: 6 }]],
    [[{ address: '::ffff:127.0.0.1', family: 6 }]],
    [[{ address: '::127.0.0.1', family: 6 }]],
    [[{ address: '::7f00:1', family: 6 }]],
    [[{ address: '64:ff9b:1::7f00:1', family: 6 }]],
    [[{ address: '2002:7f00:1::', family: 6 }]],
    [[{ address: 'fe80::1%eth0', family: 6 }]],
    [[{ address: 'fd00:ec2::254', family: 6 }]],
    // A single private address among public ones is enough.
    [
      [
        { address: '93.184.215.14', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ],
    ],
    [
      [
        { address: '4000::1', family: 6 },
        { address: '::7f00:1', family: 6 },
      ],
    ],
  ])('is refused when a public name resolves to %j', async (addresses) => {
    const receiver = await startReceiver((response) => response.end())
    const { lookup, calls } = lookupOf(addresses)
    expect(await post(`https://hooks.example.com:${receiver.port}/`, { ...secure, lookup })).toEqual({
      status: null,
      retryAfter: undefined,
      error: 'address not allowed',
    })
    expect(calls()).toBe(1)
    expect(receiver.connections()).toBe(0)
  })

  test('is not reached by a name that resolves differently each time, because the address that was judged is connected to', async () => {
    const receiver = await startReceiver((response) => response.end())
    // Public in the first lookup and private in all later ones. The first address is from a range that has not been assigned.
    const { lookup, calls } = lookupOf([{ address: '4000::1', family: 6 }], [{ address: '127.0.0.1', family: 4 }])
    const url = `https://hooks.example.com:${receiver.port}/`
    expect((await post(url, { ...secure, lookup, timeoutMs: 200 })).error).not.toBe('address not allowed')
    expect(calls()).toBe(1)
    expect(await post(url, { ...secure, lookup })).toMatchObject({ error: 'address not allowed' })
    expect(receiver.connections()).toBe(0)
  })

  test('is reached by a public name where insecure receivers are allowed', async () => {
    const receiver = await startReceiver((response) => response.end())
    const { lookup } = lookupOf([{ address: '127.0.0.1', family: 4 }])
    expect(await post(`http://hooks.example.com:${receiver.port}/`, { lookup })).toMatchObject({ status: 200 })
  })
})
