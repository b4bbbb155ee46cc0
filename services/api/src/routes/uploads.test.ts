import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { Capabilities, Job, Problem, Upload } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import { StorageError } from '@easel/storage'
import { pauseMaintenance } from '../../test/pause-maintenance.ts'
import { paint, startPictureServer, uniquePng } from '../../test/pictures.ts'
import type { PictureServer } from '../../test/pictures.ts'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import { sweepExpired } from '../maintenance/sweep-expired.ts'
import { sweepInputs } from '../maintenance/sweep-inputs.ts'

let api: TestApi
let clockOffset = 0
let web: PictureServer

beforeAll(async () => {
  web = await startPictureServer()
  api = await startTestApi({
    model: { ...tinyScenes, has_vae_encoder: true },
    env: {
      INPUT_ALLOW_INSECURE: 'true',
      MAX_INPUT_BYTES: '200000',
      API_KEYS: 'ann:key-of-ann,bob:key-of-bob',
      RESULT_TTL: '3600',
    },
    now: () => Date.now() + clockOffset,
  })
  // The api's own housekeeping stands still, because the tests sweep by themselves.
  await (await pauseMaintenance(api)).close()
})
afterEach(() => {
  clockOffset = 0
})
afterAll(async () => {
  await api.close()
  web.close()
})

const ann = { Authorization: 'Bearer key-of-ann' }
const bob = { Authorization: 'Bearer key-of-bob' }
const stored = async (): Promise<string[]> => await readdir(join(api.storageDir, 'inputs')).catch(() => [])

async function send(body: Uint8Array<ArrayBuffer> | FormData, headers: Record<string, string> = {}): Promise<Response> {
  return await api.get('/v1/uploads', { method: 'POST', body, headers: { ...ann, ...headers } })
}

async function upload(bytes: Buffer, headers: Record<string, string> = {}): Promise<Upload> {
  const response = await send(new Uint8Array(bytes), headers)
  expect(response.status).toBe(201)
  return (await response.json()) as Upload
}

/** The job, or the problem if there is none. */
type Answer = Omit<Job, 'status'> & Omit<Problem, 'status'>

async function submit(body: object, headers: Record<string, string> = ann): Promise<{ status: number; job: Answer }> {
  const response = await api.post('/v1/jobs', { prompt: 'a', ...body }, headers)
  return { status: response.status, job: (await response.json()) as Answer }
}

test.each([
  ['upload:00000000-0000-4000-8000-000000000000', /an upload of yours that has not expired/],
  ['upload:../x', /an upload of yours/],
  ['job:00000000-0000-4000-8000-000000000000', /a job of yours with an image/],
  ['data:image/png;base64,%%%', /a valid data: URL/],
  ['ftp://example.com/a.png', /an http:\/\/ or https:\/\/ URL/],
  ['picture.png', /an absolute URL/],
  ['https://user:secret@example.com/a.png', /without user name/],
  ['http://127.0.0.1:1/a.png', /can be fetched, got connection refused/],
])('%s is refused with the name of the field', async (image, detail) => {
  const { status, job } = await submit({ image })
  expect([status, job.code, job.errors?.[0]?.field]).toEqual([422, 'invalid_image', 'image'])
  expect(job.detail).toMatch(detail)
})

test('redirects are followed as far as they are allowed, and a URL that does not lead to a picture is refused', async () => {
  const png = await uniquePng()
  web.pages.set('/fine.png', (answer) => answer.writeHead(200).end(png))
  web.pages.set('/moved', (answer) => answer.writeHead(302, { Location: '/fine.png' }).end())
  web.pages.set('/round', (answer) => answer.writeHead(302, { Location: '/round' }).end())
  web.pages.set('/away', (answer) => answer.writeHead(302, { Location: 'file:///etc/passwd' }).end())
  web.pages.set('/switch', ({ socket }) => socket?.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'))
  expect((await submit({ image: `${web.url}/moved` })).status).toBe(202)
  for (const path of ['/gone', '/round', '/away', '/switch']) {
    const { status, job } = await submit({ image: web.url + path })
    expect([path, status, job.code]).toEqual([path, 422, 'invalid_image'])
  }
})

test('a mask, strength or fit without an image is refused, and so is an image for a model without a VAE encoder', async () => {
  const image = `data:image/png;base64,${(await uniquePng()).toString('base64')}`
  expect((await submit({ mask: image })).job).toMatchObject({ code: 'invalid_image', errors: [{ field: 'mask' }] })
  expect((await submit({ strength: 0.5 })).job).toMatchObject({ code: 'invalid_request', errors: [{ field: 'strength' }] })
  expect((await submit({ fit: 'fill' })).job).toMatchObject({ code: 'invalid_request', errors: [{ field: 'fit' }] })
  for (const strength of [0, 1.1, '1']) expect((await submit({ image, strength })).job.errors?.[0]?.field).toBe('strength')
  await api.worker.registry.announce({ ...tinyScenes, id: 'text-only' })
  const { job } = await submit({ model: 'text-only', image })
  const { models } = (await (await api.get('/v1/capabilities', { headers: ann })).json()) as Capabilities
  expect(models.map(({ id, accepts }) => [id, accepts.image, accepts.mask])).toEqual([
    ['text-only', false, false],
    ['tiny-scenes', true, true],
  ])
  expect(job).toMatchObject({
    code: 'invalid_request',
    errors: [{ field: 'image', expected: expect.stringContaining('VAE encoder') as string }],
  })
})

test('a data: URL beyond MAX_BODY_BYTES is refused, and the answer says where to send the picture instead', async () => {
  const { status, job } = await submit({ image: `data:image/png;base64,${'A'.repeat(1_100_000)}` })
  expect([status, job.code]).toEqual([413, 'body_too_large'])
  expect(job.detail).toContain('/v1/uploads')
})

test('every format is accepted, and the size takes the orientation into account', async () => {
  const wide = paint(96, 64)
  const files: [string, Buffer][] = [
    ['image/png', await wide.clone().png().toBuffer()],
    ['image/png', await wide.clone().toColourspace('rgb16').png().toBuffer()],
    ['image/png', await wide.clone().greyscale().png().toBuffer()],
    ['image/png', await wide.clone().ensureAlpha(0.5).png({ progressive: true }).toBuffer()],
    ['image/jpeg', await wide.clone().jpeg().toBuffer()],
    ['image/jpeg', await wide.clone().toColourspace('cmyk').jpeg().toBuffer()],
    ['image/webp', await wide.clone().webp({ lossless: true }).toBuffer()],
    ['image/avif', await wide.clone().avif().toBuffer()],
    ['image/gif', await wide.clone().gif().toBuffer()],
  ]
  for (const [contentType, bytes] of files) {
    expect(await upload(bytes)).toMatchObject({ content_type: contentType, width: 96, height: 64, bytes: bytes.length })
  }
  const turned = await wide.clone().jpeg().withMetadata({ orientation: 6 }).toBuffer()
  expect(await upload(turned)).toMatchObject({ width: 64, height: 96 })
})

test('an upload may be a body or the file of a form, is answered with a description, and can be fetched only by its owner', async () => {
  const png = await uniquePng()
  const first = await upload(png)
  expect(first.sha256).toMatch(/^[0-9a-f]{64}$/)
  expect(Date.parse(first.expires_at ?? '')).toBeGreaterThan(Date.now() + 3_500_000)
  const form = new FormData()
  form.append('file', new File([new Uint8Array(png)], 'a.png', { type: 'image/png' }))
  const second = (await (await send(form)).json()) as Upload
  expect(second).toMatchObject({ sha256: first.sha256, bytes: png.length, width: 64, height: 64 })
  expect(second.id).not.toBe(first.id)
  const twice = new FormData()
  for (const name of ['a', 'b']) twice.append(name, new File([new Uint8Array(png)], name))
  for (const body of [new FormData(), twice]) expect((await send(body)).status).toBe(422)

  const own = await api.get(`/v1/uploads/${first.id}`, { headers: ann })
  expect([own.status, own.headers.get('content-type'), own.headers.get('cache-control')]).toEqual([200, 'image/png', 'private, no-store'])
  expect(Buffer.from(await own.arrayBuffer()).equals(png)).toBe(true)
  expect((await api.get(`/v1/uploads/${first.id}`, { headers: bob })).status).toBe(404)
  expect((await submit({ image: `upload:${first.id}` }, bob)).job.code).toBe('invalid_image')
  expect((await submit({ image: `${api.url}/v1/uploads/${first.id}` }, bob)).job.code).toBe('invalid_image')
})

test('a job with a picture keeps the hash and size of the picture, never its bytes, and takes its own size from it', async () => {
  const png = await uniquePng(320, 160)
  const picture = await upload(png)
  const dataUrl = `data:image/png;base64,${png.toString('base64')}`
  const { status, job } = await submit({ image: dataUrl, mask: `upload:${picture.id}`, strength: 0.5, num_inference_steps: 10 })
  expect(status).toBe(202)
  const { id: _id, expires_at: _at, ...kept } = picture
  expect(job.input).toMatchObject({ image: kept, mask: kept, strength: 0.5, fit: 'cover', width: 176, height: 80 })
  // Half of the steps are run.
  expect(job.progress).toEqual({ step: 0, total: 5 })
  const redis = createRedis({ url: api.redis.url, use: 'worker', onError: () => {} })
  const texts = [JSON.stringify(await redis.hgetall(`{easel}:job:${job.id}`)), JSON.stringify(job)]
  redis.disconnect()
  for (const text of texts) expect(text).not.toContain(png.toString('base64').slice(1000, 1100))
  expect((await readFile(join(api.storageDir, 'inputs', picture.sha256))).equals(png)).toBe(true)

  const sized = await submit({ image: dataUrl, width: 64, fit: 'contain' })
  expect(sized.job.input).toMatchObject({ width: 64, height: 32, fit: 'contain', strength: 0.6 })
  const again = await submit({ image: `job:${job.id}`, mask: `job:${job.id}`, width: 64, height: 64 })
  expect(again.job.input).toMatchObject({ image: kept, mask: kept, width: 64, height: 64 })
  expect((await submit({ image: `job:${job.id}` }, bob)).job.code).toBe('invalid_image')
})

test('a URL of this server is read from the store, whatever INPUT_ALLOW_INSECURE says', async () => {
  const strict = await startTestApi({ redis: api.redis, model: { ...tinyScenes, has_vae_encoder: true } })
  const png = await uniquePng()
  const id = (await strict.submit()).id
  await strict.worker.succeed(id)
  await strict.deps.storage.put(`images/${id}-0.png`, png, { contentType: 'image/png' })
  const own = await strict.post('/v1/jobs', { prompt: 'a', image: `${strict.url}/images/${id}-0.png` })
  expect(own.status).toBe(202)
  expect(((await own.json()) as Job).input.image?.bytes).toBe(png.length)
  for (const image of [
    `${strict.url}/images/${id}-1.png`,
    `${strict.url}/livez`,
    `${web.url}/fine.png`,
    'https://127.0.0.1/a.png',
    'https://[::1]/a',
  ]) {
    const refused = await strict.post('/v1/jobs', { prompt: 'a', image })
    expect([image, refused.status, ((await refused.json()) as Problem).code]).toEqual([image, 422, 'invalid_image'])
  }
  await strict.close()
})

test('an Idempotency-Key identifies a picture by its bytes, not by where it comes from', async () => {
  const [png, other] = [await uniquePng(), await uniquePng()]
  web.pages.set('/moving.png', (answer) => answer.writeHead(200).end(png))
  const headers = { ...ann, 'Idempotency-Key': 'same-picture' }
  const first = await submit({ image: `${web.url}/moving.png` }, headers)
  const again = await submit({ image: `upload:${(await upload(png)).id}` }, headers)
  expect([first.status, again.status, again.job.id]).toEqual([202, 202, first.job.id])
  web.pages.set('/moving.png', (answer) => answer.writeHead(200).end(other))
  expect((await submit({ image: `${web.url}/moving.png` }, headers)).job.code).toBe('idempotency_mismatch')
})

test('a request repeated with its key gets its job even if the picture is no longer available', async () => {
  const png = await uniquePng()
  web.pages.set('/dying.png', (answer) => answer.writeHead(200).end(png))
  const { id } = await upload(await uniquePng())
  const keyed = (key: string): Record<string, string> => ({ ...ann, 'Idempotency-Key': key })
  const bodies = [{ image: `${web.url}/dying.png` }, { image: `${web.url}/dying.png`, mask: `upload:${id}` }, { image: `upload:${id}` }]
  const firsts: Answer[] = []
  for (const [i, body] of bodies.entries()) firsts.push((await submit(body, keyed(`dying ${i}`))).job)
  web.pages.set('/dying.png', (answer) => answer.writeHead(404).end('gone'))
  await api.get(`/v1/uploads/${id}`, { method: 'DELETE', headers: ann })
  for (const [i, body] of bodies.entries()) {
    const again = await submit(body, keyed(`dying ${i}`))
    expect([again.status, again.job.id]).toEqual([202, firsts[i]?.id])
    // Another request is told that there is no such picture, and the same key of another owner is a different key.
    expect((await submit({ ...body, prompt: 'b' }, keyed(`dying ${i}`))).job.code).toBe('invalid_image')
    expect((await submit(body, { ...bob, 'Idempotency-Key': `dying ${i}` })).job.code).toBe('invalid_image')
    expect((await submit(body)).job.code).toBe('invalid_image')
  }
})

test('a form with two files is refused where one is expected, instead of being read in part', async () => {
  for (const [path, field, status] of [
    ['/v1/uploads', 'file', 422],
    ['/v1/files', 'content', 422],
    ['/v1/images/edits', 'image', 400],
  ] as const) {
    const body = new FormData()
    for (let i = 0; i < 2; i++) body.append(field, new File([new Uint8Array(await uniquePng())], 'a.png'))
    expect([path, (await api.get(path, { method: 'POST', body, headers: ann })).status]).toEqual([path, status])
  }
})

test('a body that is not a form, ends too soon or is too large is refused, whether or not it declares its length', async () => {
  const png = await uniquePng()
  const head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
  const whole = Buffer.concat([Buffer.from(head), png, Buffer.from('\r\n--x--\r\n')])
  const inPieces = (bytes: Buffer): ReadableStream<Uint8Array> => ReadableStream.from([bytes.subarray(0, 70), bytes.subarray(70)])
  const form = { 'Content-Type': 'multipart/form-data; boundary=x' }
  const post = async (bytes: Buffer, headers: Record<string, string>, path = '/v1/uploads'): Promise<number[]> => {
    const init = { method: 'POST', headers: { ...ann, ...headers } }
    const announced = await api.get(path, { ...init, body: new Uint8Array(bytes) })
    const streamed = await api.get(path, { ...init, body: inPieces(bytes), duplex: 'half' })
    return [announced.status, streamed.status]
  }
  expect(await post(whole, form)).toEqual([201, 201])
  expect(await post(png, { 'Content-Type': 'image/png' })).toEqual([201, 201])
  const ends = [whole.subarray(0, 40), whole.subarray(0, head.length), whole.subarray(0, -40), whole.subarray(0, -12), Buffer.from('--x')]
  for (const [i, bytes] of ends.entries()) {
    for (const path of ['/v1/uploads', '/v1/files', '/v1/images/edits'])
      expect([i, path, await post(bytes, form, path)]).toEqual([i, path, [400, 400]])
  }
  expect(await post(whole, { 'Content-Type': 'multipart/form-data' })).toEqual([400, 400])
  expect(await post(whole, { 'Content-Type': 'multipart/form-data; boundary=y' })).toEqual([400, 400])
  const part = '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
  expect(await post(Buffer.from(`${part.repeat(501)}--x--\r\n`), form)).toEqual([400, 400])
  const large = Buffer.alloc(200_001, 'a')
  expect(await post(large, { 'Content-Type': 'image/png' })).toEqual([413, 413])
  expect(await post(Buffer.concat([Buffer.from(head), large, Buffer.from('\r\n--x--\r\n')]), form)).toEqual([413, 413])
})

test('a picture that disappears while its job is being made is refused with the name of its field, and is counted for nobody', async () => {
  const [image, mask] = [await upload(await uniquePng()), await upload(await uniquePng())]
  const counted = async (): Promise<unknown> =>
    ((await (await api.get('/v1/usage', { headers: ann })).json()) as { inputs: unknown }).inputs
  const held = async (): Promise<unknown> => await api.deps.inputs.listDue(Date.now() + 700_000, 1000)
  const before = [await counted(), await held()]
  await rm(join(api.storageDir, 'inputs', mask.sha256))
  const { status, job } = await submit({ image: `upload:${image.id}`, mask: `upload:${mask.id}` })
  expect([status, job.code, job.errors?.[0]?.field]).toEqual([422, 'invalid_image', 'mask'])
  expect([await counted(), await held()]).toEqual(before)
})

test('a picture is removed with the last job or upload that needs it, and not before', async () => {
  const png = await uniquePng()
  const { id, sha256 } = await upload(png)
  const [first, second] = [await submit({ image: `upload:${id}` }), await submit({ image: `upload:${id}`, mask: `upload:${id}` })]
  const remove = async (job: string): Promise<number> => (await api.get(`/v1/jobs/${job}`, { method: 'DELETE', headers: ann })).status
  expect(await remove(first.job.id)).toBe(204)
  expect(await stored()).toContain(sha256)
  await api.worker.succeed(second.job.id)
  clockOffset = 3_601_000
  expect((await submit({ image: `upload:${id}` })).job.code).toBe('invalid_image')
  await sweepInputs(api.deps)
  // A job that was just made still holds it.
  expect(await stored()).toContain(sha256)
  clockOffset = 7_202_000
  await sweepExpired(api.deps)
  expect(await stored()).not.toContain(sha256)
  clockOffset = 0
  expect((await submit({ image: `data:image/png;base64,${png.toString('base64')}` })).status).toBe(202)
  expect(await stored()).toContain(sha256)
})

test('an upload can be deleted only by its owner, and its picture stays for the jobs that have it', async () => {
  const png = await uniquePng()
  const { id, sha256 } = await upload(png)
  const { job } = await submit({ image: `upload:${id}` })
  const remove = async (path: string, headers: Record<string, string> = ann): Promise<number> =>
    (await api.get(path, { method: 'DELETE', headers })).status
  expect(await remove(`/v1/uploads/${id}`, bob)).toBe(404)
  expect(await remove(`/v1/uploads/${id}`)).toBe(204)
  expect(await remove(`/v1/uploads/${id}`)).toBe(404)
  expect(await remove('/v1/uploads/..%2Fx')).toBe(404)
  expect((await api.get(`/v1/uploads/${id}`, { headers: ann })).status).toBe(404)
  expect((await submit({ image: `upload:${id}` })).job.code).toBe('invalid_image')
  expect(await stored()).toContain(sha256)
  expect((await submit({ image: `job:${job.id}` })).status).toBe(202)

  const alone = await upload(await uniquePng())
  expect(await stored()).toContain(alone.sha256)
  expect(await remove(`/v1/uploads/${alone.id}`)).toBe(204)
  expect(await stored()).not.toContain(alone.sha256)
})

test('usage counts each picture that an owner’s uploads and jobs keep once', async () => {
  const usageOf = async (headers: Record<string, string>): Promise<{ pictures: number; bytes: number }> => {
    const { inputs } = (await (await api.get('/v1/usage', { headers })).json()) as { inputs: { pictures: number; bytes: number } }
    return inputs
  }
  const [before, ofBob] = [await usageOf(ann), await usageOf(bob)]
  const png = await uniquePng()
  const [first, second] = [await upload(png), await upload(png)]
  const { job } = await submit({ image: `upload:${first.id}`, mask: `upload:${second.id}` })
  const kept = { pictures: before.pictures + 1, bytes: before.bytes + png.length }
  expect(await usageOf(ann)).toEqual(kept)
  const { id: ofOther } = await upload(png, bob)
  expect([await usageOf(ann), await usageOf(bob)]).toEqual([kept, { pictures: ofBob.pictures + 1, bytes: ofBob.bytes + png.length }])

  const remove = async (path: string, headers = ann): Promise<Response> => await api.get(path, { method: 'DELETE', headers })
  await remove(`/v1/uploads/${first.id}`)
  await remove(`/v1/uploads/${second.id}`)
  expect(await usageOf(ann)).toEqual(kept)
  await remove(`/v1/jobs/${job.id}`)
  expect(await usageOf(ann)).toEqual(before)
  await remove(`/v1/uploads/${ofOther}`, bob)
  expect(await usageOf(bob)).toEqual(ofBob)
  // A request that is refused keeps nothing.
  expect((await submit({ image: `data:image/png;base64,${png.toString('base64')}`, width: 17 })).status).toBe(422)
  expect(await usageOf(ann)).toEqual(before)
})

test('an upload that could not be stored is counted for ten minutes at most, and one that was stored stays', async () => {
  const usage = async (): Promise<unknown> => ((await (await api.get('/v1/usage', { headers: ann })).json()) as { inputs: unknown }).inputs
  const { id } = await upload(await uniquePng())
  const before = await usage()
  using storing = vi.spyOn(api.deps.storage, 'put').mockRejectedValueOnce(new StorageError('unavailable', 'disk'))
  expect((await send(new Uint8Array(await uniquePng()))).status).toBe(503)
  expect(storing).toHaveBeenCalledOnce()
  clockOffset = 601_000
  await sweepInputs(api.deps)
  expect(await usage()).toEqual(before)
  expect((await api.get(`/v1/uploads/${id}`, { headers: ann })).status).toBe(200)
})

test('the sweep removes what an interrupted request has stored, and what an interrupted sweep has left', async () => {
  const { inputs, storage } = api.deps
  const picture = { sha256: 'a'.repeat(64), bytes: 1 }
  const { sha256 } = picture
  const key = `inputs/${sha256}`
  const holder = `job:${'0'.repeat(36)}` as const
  expect(await inputs.hold(picture, holder, { owner: 'ann', dueAt: Date.now() + 600_000 })).toBe(true)
  await storage.put(key, Buffer.from('x'), { contentType: 'application/octet-stream' })
  await sweepInputs(api.deps)
  expect(await storage.stat(key)).toBeDefined()
  // As if the process that was to remove it had died: for a while nobody may hold it, and then the sweep removes it.
  expect(await inputs.release(sha256, holder)).toBe(true)
  expect(await inputs.hold(picture, holder, { owner: 'ann', dueAt: Date.now() })).toBe(false)
  clockOffset = 61_000
  // Redis does this after a minute.
  await api.deps.redis.del(api.deps.store.keys.inputRemoval(sha256))
  await sweepInputs(api.deps)
  expect(await storage.stat(key)).toBeUndefined()
  expect(await inputs.hold(picture, holder, { owner: 'ann', dueAt: Date.now() })).toBe(true)
  await inputs.release(sha256, holder)
  await inputs.forget(sha256)
})
