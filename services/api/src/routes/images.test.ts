import { request as httpRequest } from 'node:http'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Job, Problem } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
let nowMs: number | undefined
beforeAll(async () => {
  api = await startTestApi({ now: () => nowMs ?? Date.now(), env: { RESULT_TTL: '60' } })
})
afterAll(async () => {
  await api.close()
})

async function picture(body: Record<string, unknown> = {}): Promise<string> {
  const { id } = await api.submit(body)
  await api.worker.succeed(id)
  return id
}

test('a picture is sent with its type and length, and may be cached for ever', async () => {
  const id = await picture()
  const response = await api.get(`/images/${id}-0.png`)
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('image/png')
  expect(response.headers.get('cache-control')).toContain('immutable')
  const text = await response.text()
  expect(text).toBe(`picture 0 of ${id}`)
  expect(response.headers.get('content-length')).toBe(String(text.length))
})

test('other formats have their own extension and type', async () => {
  const id = await picture({ output_format: 'jpeg' })
  expect((await api.get(`/images/${id}-0.jpg`)).headers.get('content-type')).toBe('image/jpeg')
  expect((await api.get(`/images/${id}-0.png`)).status).toBe(404)
})

test('the job has the URL of a thumbnail beside each picture, which is sent and kept like the picture', async () => {
  const { id } = await api.submit({ num_images_per_prompt: 2 })
  await api.worker.succeed(id)
  const { output } = (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
  expect(output?.images.map((image) => image.thumbnail_url)).toEqual([0, 1].map((n) => `${api.url}/images/${id}-${n}.thumb.webp`))
  expect(output?.images[0]).not.toHaveProperty('thumbnail_key')
  const response = await fetch(output?.images[1]?.thumbnail_url ?? '')
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'image/webp'])
  expect(response.headers.get('cache-control')).toContain('immutable')
  expect(await response.text()).toBe(`thumbnail 1 of ${id}`)
  const etag = response.headers.get('etag') ?? ''
  expect(etag).not.toBe((await api.get(`/images/${id}-1.png`)).headers.get('etag'))
  expect((await api.get(`/images/${id}-1.thumb.webp`, { headers: { 'If-None-Match': etag } })).status).toBe(304)
  nowMs = Date.now() + 61_000
  expect((await api.get(`/images/${id}-1.thumb.webp`)).status).toBe(410)
  nowMs = undefined
})

test('a job of an earlier Easel, which made no thumbnails, has only its pictures', async () => {
  const { id } = await api.submit()
  await api.worker.store.start(id, 'w')
  const image = { key: `images/${id}-0.png`, width: 128, height: 128, seed: 1, sha256: '0'.repeat(64), content_type: 'image/png' }
  await api.worker.store.end(id, { status: 'succeeded', output: { images: [image] } })
  const { output } = (await (await api.get(`/v1/jobs/${id}`)).json()) as Job
  expect(output?.images[0]?.url).toBe(`${api.url}/images/${id}-0.png`)
  expect(output?.images[0]).not.toHaveProperty('thumbnail_url')
  expect((await api.get(`/images/${id}-0.thumb.webp`)).status).toBe(404)
})

test('a client that already has the picture gets 304', async () => {
  const id = await picture()
  const etag = (await api.get(`/images/${id}-0.png`)).headers.get('etag') ?? ''
  expect(etag).toMatch(/^".+"$/)
  for (const value of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const response = await api.get(`/images/${id}-0.png`, { headers: { 'If-None-Match': value } })
    expect([response.status, response.headers.get('etag'), await response.text()]).toEqual([304, etag, ''])
  }
  expect((await api.get(`/images/${id}-0.png`, { headers: { 'If-None-Match': '"other"' } })).status).toBe(200)
})

test('HEAD is answered with the same headers and no bytes', async () => {
  const id = await picture()
  const response = await api.get(`/images/${id}-0.png`, { method: 'HEAD' })
  expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([200, '49', ''])
})

test('a picture that does not exist is answered with 404 and the wording that older clients know, an expired one with 410', async () => {
  const missing = await api.get(`/images/${uuidv7()}-0.png`)
  expect([missing.status, ((await missing.json()) as Problem).detail]).toEqual([404, 'Image not found'])
  expect((await api.get(`/images/${uuidv7({ msecs: Date.now() - 61_000 })}-0.png`)).status).toBe(410)
  const id = await picture()
  nowMs = Date.now() + 61_000
  expect((await api.get(`/images/${id}-0.png`)).status).toBe(410)
  nowMs = undefined
})

test('no path leads out of the folder of pictures', async () => {
  await writeFile(join(api.storageDir, 'secret.png'), 'secret')
  const id = await picture()
  const names = ['../secret.png', '..%2fsecret.png', '%2e%2e%2fsecret.png', '..%5csecret.png', `${id}-0.png%00.txt`, `x%2f..%2f${id}-0.png`]
  const more = [
    '%2fetc%2fpasswd',
    `${id}-0.png%2f..%2f..%2fsecret.png`,
    '....//secret.png',
    `${id}-00.png`,
    `${id.toUpperCase()}-0.png`,
    '%ff',
  ]
  for (const name of [...names, ...more]) {
    const [status, body] = await getRaw(`/images/${name}`)
    expect([name, status]).toEqual([name, 404])
    expect(body).not.toContain('secret"')
    expect(body.startsWith('secret')).toBe(false)
  }
})

/** A GET whose path is sent unchanged; `fetch` would remove the dots. */
function getRaw(path: string): Promise<[number, string]> {
  const { port } = new URL(api.url)
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, path }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () => resolve([response.statusCode ?? 0, body]))
    })
    request.once('error', reject)
    request.end()
  })
}
