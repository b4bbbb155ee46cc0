import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Problem } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi({ env: { MAX_BODY_BYTES: '2048' } })
})
afterAll(async () => {
  await api.close()
})

async function send(path: string, body: string | Uint8Array<ArrayBuffer> | null, type?: string): Promise<[number, string, string | null]> {
  // With a Blob that has no type, no content type is sent at all.
  const bytes = body === null ? null : new Blob([body], type === undefined ? {} : { type })
  const response = await api.get(path, {
    method: 'POST',
    body: bytes,
    ...(type === undefined ? {} : { headers: { 'Content-Type': type } }),
  })
  const problem = (await response.json()) as Problem
  return [response.status, problem.code, response.headers.get('content-type')]
}

const good = '{"prompt": "a"}'
const problemJson = 'application/problem+json'

test('invalid JSON and a missing body are answered as malformed, in problem+json', async () => {
  for (const text of ['{', '{"prompt": "a",}', "{'prompt': 'a'}", 'NaN', '{"prompt": NaN}', '']) {
    expect(await send('/v1/jobs', text, 'application/json')).toEqual([400, 'malformed_body', problemJson])
  }
  expect(await send('/v1/jobs', null, 'application/json')).toEqual([400, 'malformed_body', problemJson])
})

test('a body with more fields than any schema has is refused before each field is judged, in every dialect', async () => {
  const many = Object.fromEntries(Array.from({ length: 501 }, (_, i) => [`${i}`, 1]))
  const bodies: [string, object, number][] = [
    ['/v1/jobs', { prompt: 'a', ...many }, 422],
    ['/v1/images/generations', { prompt: 'a', ...many }, 400],
    ['/fal/queue/local/tiny-scenes', { prompt: 'a', ...many }, 422],
    ['/api/diffusers/inference', { prompt: 'a', ...many }, 422],
    ['/v1/predictions', { version: 'tiny-scenes', input: { prompt: 'a', ...many } }, 422],
  ]
  const wide = await startTestApi({ redis: api.redis, env: { QUEUE_PREFIX: '{wide}' } })
  for (const [path, body, status] of bodies) {
    const response = await wide.post(path, body)
    expect([path, response.status, await response.text()]).toEqual([path, status, expect.stringContaining('at most 500 fields')])
  }
  await wide.close()
})

test('a body that is not UTF-8 is refused as malformed, and no character is replaced', async () => {
  for (const bytes of [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80]]) {
    const body = new Uint8Array([...Buffer.from('{"prompt": "a'), ...bytes, ...Buffer.from('"}')])
    expect(await send('/v1/jobs', body, 'application/json')).toEqual([400, 'malformed_body', problemJson])
  }
})

test('a content type other than JSON in UTF-8 is refused, and so is none at all', async () => {
  const types = [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data',
    'application/json; charset=latin1',
    'application/xml',
    'application/jsonp',
    'application/problem+json',
    'json',
    ';',
  ]
  for (const type of [...types, undefined]) {
    expect([type, ...(await send('/v1/jobs', good, type))]).toEqual([type, 415, 'unsupported_media_type', problemJson])
  }
})

test('a compressed body is refused for its Content-Encoding', async () => {
  const ask = async (encoding: string): Promise<number> =>
    (await api.post('/v1/jobs', { prompt: 'a' }, { 'Content-Encoding': encoding })).status
  expect([await ask('gzip'), await ask('br'), await ask('identity')]).toEqual([415, 415, 202])
})

test('the content type of JSON may have a charset and other parameters', async () => {
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON;charset="UTF-8"',
    'application/json;',
    'application/json ; ; charset=utf-8;',
    'application/json; profile="https://a.example/x;y"; v=1',
  ]) {
    const response = await api.get('/v1/jobs', { method: 'POST', body: good, headers: { 'Content-Type': type } })
    expect([type, response.status]).toEqual([type, 202])
  }
})

test('a body is refused if it has too many bytes, whether or not it declares its length', async () => {
  const large = JSON.stringify({ prompt: 'ä'.repeat(1024) })
  expect(large.length).toBeLessThan(2048)
  expect(await send('/v1/jobs', large, 'application/json')).toEqual([413, 'body_too_large', problemJson])
  expect(await sendChunked([large.slice(0, 500), large.slice(500)])).toBe(413)
  expect(await sendChunked(['{"prompt"', ': "a"}'])).toBe(202)
})

test('a client that ends the connection in the middle of its body does not count as an error of the server', async () => {
  const counted = async (): Promise<string[]> => {
    const text = await (await api.get('/metrics')).text()
    return text.split('\n').filter((line) => line.startsWith('easel_http_requests_total{method="POST"') && /status="(4|5)/.test(line))
  }
  for (const framing of ['Content-Length: 1000', 'Transfer-Encoding: chunked']) {
    const before = await counted()
    const socket = connect(Number(new URL(api.url).port), '127.0.0.1')
    const head = ['POST /v1/jobs HTTP/1.1', 'Host: a', 'Content-Type: application/json', framing, 'Expect: 100-continue']
    socket.write(`${head.join('\r\n')}\r\n\r\n`)
    // The server has begun to read.
    await once(socket, 'data')
    socket.write('b\r\n{"prompt": "')
    socket.resetAndDestroy()
    await expect.poll(counted).not.toEqual(before)
    expect((await counted()).join()).not.toContain('status="5')
  }
})

/** A POST that does not declare its length. */
function sendChunked(parts: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${api.url}/v1/jobs`, { method: 'POST', headers: { 'Content-Type': 'application/json' } }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    request.once('error', reject)
    for (const part of parts) request.write(part)
    request.end()
  })
}
