/** Requests that no HTTP library would send: each gets an answer, and the server continues. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(async () => await api.close())

/** Everything that the server answers to these bytes until it ends the connection. */
async function send(bytes: string): Promise<string> {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(bytes, 'latin1')
  return await text(socket)
}

const request = (line: string, headers: readonly string[] = ['Host: a'], body = ''): string =>
  `${[line, ...headers, 'Connection: close'].join('\r\n')}\r\n\r\n${body}`
const statusesOf = (answers: string): number[] => [...answers.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))
const target = 'x-fal-target-url: https://queue.fal.run/local/tiny-scenes'

test.for<[string, string, number]>([
  ['TRACE', request('TRACE /v1/jobs HTTP/1.1'), 405],
  ['TRACE of the proxy with a target that is offered', request('TRACE /fal/proxy HTTP/1.1', ['Host: a', target]), 412],
  ['PATCH of the proxy', request('PATCH /fal/proxy HTTP/1.1', ['Host: a', target]), 412],
  ['DELETE of the proxy', request('DELETE /fal/proxy HTTP/1.1', ['Host: a', target]), 412],
  [
    'a proxied target whose path is malformed',
    request('GET /fal/proxy HTTP/1.1', ['Host: a', 'x-fal-target-url: https://fal.run//%zz']),
    404,
  ],
  ['a method that nobody knows', request('QUERY /v1/jobs HTTP/1.1'), 405],
  ['a method with a letter that no method may have', request('GE\u00e4T / HTTP/1.1'), 400],
  ['OPTIONS *', request('OPTIONS * HTTP/1.1'), 400],
  ['CONNECT', request('CONNECT a:80 HTTP/1.1'), 0],
  ['an absolute target', request(`GET http://elsewhere.example/livez HTTP/1.1`), 200],
  ['a target that is not a path', request('GET livez HTTP/1.1'), 400],
  ['no Host', request('GET /livez HTTP/1.1', []), 400],
  ['two Hosts', request('GET /livez HTTP/1.1', ['Host: a', 'hOST: b']), 400],
  ['the same Host twice', request('GET /livez HTTP/1.1', ['Host: a', 'Host: a']), 400],
  ['a header whose value is Host', request('GET /livez HTTP/1.1', ['Host: host', 'X-Request-Id: host']), 200],
  ['a Host with a path', request('GET /livez HTTP/1.1', ['Host: a/b']), 400],
  ['a Host with a user', request('GET /livez HTTP/1.1', ['Host: me@a']), 400],
  ['a Host that is not a name', request('GET /livez HTTP/1.1', ['Host: a b<>']), 400],
  ['a path that is not UTF-8', request('GET /v1/jobs/%ff%fe HTTP/1.1'), 404],
  ['a path with a zero', request('GET /v1/jobs/%00 HTTP/1.1'), 404],
  ['a path that leads out of the folder', request('GET /images/..%2f..%2fetc%2fpasswd HTTP/1.1'), 404],
  ['a backslash in the path', request('GET /images\\a HTTP/1.1'), 400],
  ['a header with a zero', request('GET /livez HTTP/1.1', ['Host: a', 'X-Request-Id: a\0b']), 400],
  ['a header without a name', request('GET /livez HTTP/1.1', ['Host: a', ': x']), 400],
  ['a header that is too long', request('GET /livez HTTP/1.1', ['Host: a', `X-Long: ${'x'.repeat(20_000)}`]), 431],
  ['a length that is not a number', request('POST /v1/jobs HTTP/1.1', ['Host: a', 'Content-Length: x']), 400],
  ['two lengths', request('POST /v1/jobs HTTP/1.1', ['Host: a', 'Content-Length: 1', 'Content-Length: 2']), 400],
  [
    'a length beside chunks',
    request('POST /v1/jobs HTTP/1.1', ['Host: a', 'Content-Length: 3', 'Transfer-Encoding: chunked'], '0\r\n\r\n'),
    400,
  ],
  [
    'a chunk without a length',
    request('POST /v1/jobs HTTP/1.1', ['Host: a', 'Content-Type: application/json', 'Transfer-Encoding: chunked'], 'zz\r\n'),
    400,
  ],
  ['a body where none is expected', request('GET /livez HTTP/1.1', ['Host: a', 'Content-Length: 2'], '{}'), 200],
])('%s is answered, and the server continues', async ([, bytes, expected]) => {
  const [status = 0] = statusesOf(await send(bytes))
  expect(status).toBe(expected)
  expect((await api.get('/livez')).status).toBe(200)
})

test('requests that are sent all at once are answered in their order', async () => {
  const job = (await api.submit()).id
  const lines = ['GET /livez', `GET /v1/jobs/${job}`, 'GET /nothing', 'TRACE /fal/proxy', 'GET /v1/capabilities']
  const bytes = lines.map((line) => `${line} HTTP/1.1\r\nHost: a\r\n\r\n`).join('') + request('GET /livez HTTP/1.1')
  expect(statusesOf(await send(bytes))).toEqual([200, 200, 404, 412, 200, 200])
})

test('a client of HTTP/1.0 gets a stream of events that is not chunked', async () => {
  const { id } = await api.submit()
  await api.worker.succeed(id)
  const answer = await send(`GET /v1/jobs/${id}/events HTTP/1.0\r\n\r\n`)
  const [head = '', body = ''] = answer.split('\r\n\r\n', 2)
  expect(head).toMatch(/content-type: text\/event-stream/i)
  expect(head).not.toMatch(/transfer-encoding|keep-alive/i)
  expect(body).toMatch(/^retry: \d+\n\n/)
})

test('a slash at the end of a path changes nothing', async () => {
  for (const path of ['/v1/jobs', '/livez', '/v1/models', '/openapi.json']) {
    expect([path, (await api.get(`${path}/`)).status]).toEqual([path, 200])
  }
  const headers = { 'x-fal-target-url': 'https://queue.fal.run/local/tiny-scenes/' }
  expect((await api.post('/fal/proxy/', { prompt: 'a' }, headers)).status).toBe(200)
})
