import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let direct: TestApi
let behind: TestApi
beforeAll(async () => {
  const env = { PUBLIC_URL: '', WEBHOOK_ALLOW_INSECURE: 'true' }
  direct = await startTestApi({ env })
  behind = await startTestApi({ env: { ...env, TRUSTED_PROXIES: '1', QUEUE_PREFIX: '{behind}' }, redis: direct.redis })
})
afterAll(async () => {
  await behind.close()
  await direct.close()
})

interface Answer {
  status: number
  body: string
  headers: Record<string, string | string[] | undefined>
}

/** Sends a request with a given Host, which `fetch` does not allow. */
async function ask(api: TestApi, path: string, headers: Record<string, string>, body?: object): Promise<Answer> {
  const outgoing = request(api.url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
  })
  outgoing.end(body === undefined ? undefined : JSON.stringify(body))
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of incoming) text += String(chunk)
  return { status: incoming.statusCode ?? 0, body: text, headers: incoming.headers }
}

async function makePicture(api: TestApi): Promise<string> {
  const { id } = await api.submit()
  await api.worker.succeed(id)
  return id
}
const urlOf = ({ body }: Answer): string | undefined => (JSON.parse(body) as Job).output?.images[0]?.url

describe('without PUBLIC_URL', () => {
  test('picture URLs begin with the host that the request names, and the ETag depends on it', async () => {
    const id = await makePicture(direct)
    const [first, second] = [
      await ask(direct, `/v1/jobs/${id}`, { Host: 'easel.lan:8500' }),
      await ask(direct, `/v1/jobs/${id}`, { Host: '192.168.1.5:8500', 'X-Forwarded-Host': 'evil.example', 'X-Forwarded-Proto': 'https' }),
    ]
    expect(urlOf(first)).toBe(`http://easel.lan:8500/images/${id}-0.png`)
    expect(urlOf(second)).toBe(`http://192.168.1.5:8500/images/${id}-0.png`)
    expect(first.headers['etag']).not.toBe(second.headers['etag'])
    const prediction = JSON.parse((await ask(direct, `/v1/predictions/${id}`, { Host: 'easel.lan' })).body) as {
      output: string[]
      urls: { get: string }
    }
    expect([prediction.output[0], prediction.urls.get]).toEqual([
      `http://easel.lan/images/${id}-0.png`,
      `http://easel.lan/v1/predictions/${id}`,
    ])
  })

  test('picture URLs behind a trusted proxy begin with the host and protocol that the proxy was asked for, and caches are told', async () => {
    const id = await makePicture(behind)
    for (const headers of [
      { 'X-Forwarded-For': '1.1.1.1', 'X-Forwarded-Host': 'pictures.example', 'X-Forwarded-Proto': 'https' },
      { 'X-Forwarded-For': '9.9.9.9, 1.1.1.1', 'X-Forwarded-Host': 'evil.example, pictures.example', 'X-Forwarded-Proto': 'http, https' },
      { Forwarded: 'for=1.1.1.1;host=pictures.example;proto=https' },
    ] as Record<string, string>[]) {
      const answer = await ask(behind, `/v1/jobs/${id}`, { Host: 'inside:8500', ...headers })
      expect(urlOf(answer)).toBe(`https://pictures.example/images/${id}-0.png`)
      expect(answer.headers['vary']).toMatch(/X-Forwarded-Host, X-Forwarded-Proto, Forwarded/)
    }
  })

  test.each(['a b', 'x/../y', 'user@host', 'h?x', ':80'])('the invalid Host %j is not repeated', async (host) => {
    const id = await makePicture(direct)
    const answer = await ask(direct, `/v1/jobs/${id}`, { Host: host })
    const said = answer.status === 400 ? 'refused' : urlOf(answer)
    expect(['refused', `http://localhost:${new URL(direct.url).port}/images/${id}-0.png`]).toContain(said)
  })

  test('a webhook message has URLs with the host named by the request that made the job', async () => {
    const told: string[] = []
    const receiver = createServer((incoming, response) => {
      let text = ''
      incoming.on('data', (chunk: Buffer) => (text += chunk.toString()))
      incoming.on('end', () => {
        told.push((JSON.parse(text) as { data: Job }).data.output?.images[0]?.url ?? '')
        response.end()
      })
    }).listen(0, '127.0.0.1')
    await once(receiver, 'listening')
    const webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
    const made = await ask(direct, '/v1/jobs', { Host: 'easel.lan:8500' }, { prompt: 'p', webhook })
    const { id } = JSON.parse(made.body) as Job
    await direct.worker.succeed(id)
    await direct.deps.queues.remove('tiny-scenes', id)
    await expect.poll(() => told, { timeout: 60_000 }).toEqual([`http://easel.lan:8500/images/${id}-0.png`])
    receiver.close()
  })
})

test('with PUBLIC_URL, every URL begins with it, whatever the request says', async () => {
  const fixed = await startTestApi({
    env: { PUBLIC_URL: 'https://p.example/easel', TRUSTED_PROXIES: '1', QUEUE_PREFIX: '{fixed}' },
    redis: direct.redis,
  })
  const id = await makePicture(fixed)
  const answer = await ask(fixed, `/v1/jobs/${id}`, { Host: 'other', 'X-Forwarded-Host': 'evil.example' })
  expect(urlOf(answer)).toBe(`https://p.example/easel/images/${id}-0.png`)
  expect(answer.headers['x-content-type-options']).toBe('nosniff')
  await fixed.close()
})
