/** Every method, used on the whole service: a real api, a real worker with the embedded model, real files. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Easel as Service, startEasel } from '../../../scripts/start-easel.ts'
import {
  Easel,
  InvalidRequestError,
  NotFoundError,
  verifyWebhook,
  type FollowedEvent,
  type Image,
  type Job,
  type WebhookMessage,
} from '../src/index.ts'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const quick = { prompt: 'a red boat on the sea', seed: 42, num_inference_steps: 4 }

let service: Service
let easel: Easel
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-client-'))
  service = await startEasel({ env: { WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_SECRETS: secret } })
  // A slash at the end makes no difference.
  easel = new Easel({ baseUrl: `${service.url}/` })
})
afterAll(async () => {
  await service?.stop()
  await rm(folder, { recursive: true, force: true })
})

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

test('run makes a picture, which can be fetched as bytes and as a file', async () => {
  const job = await easel.run(quick)
  expect(job).toMatchObject({ status: 'succeeded', error: null, input: { seed: 42, num_inference_steps: 4 } })
  const [image] = job.output.images
  const bytes = await easel.images.bytes(image)
  expect(sha256(bytes)).toBe(image.sha256)
  expect(await sharp(bytes).metadata()).toMatchObject({ format: 'png', width: image.width, height: image.height })
  await easel.images.toFile(image, join(folder, 'boat.png'))
  expect(sha256(await readFile(join(folder, 'boat.png')))).toBe(image.sha256)
})

test('the events of a job go from its beginning to the ended job itself, whenever they are read', async () => {
  const { id, status } = await easel.create({ ...quick, num_inference_steps: 20 })
  expect(status).toBe('queued')
  const events = await Array.fromAsync(easel.events(id))
  const statuses = events.flatMap((event) => (event.type === 'status' ? event.status : []))
  expect(statuses).toEqual(['queued', 'running'])
  const steps = events.flatMap((event) => (event.type === 'progress' ? event.step : []))
  expect(steps.length).toBeGreaterThan(0)
  expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b))
  const last = events.at(-1)
  if (last?.type !== 'done') throw new Error(`Expected done to be last, got ${last?.type}`)
  expect(last.job).toEqual(await easel.get(id))
  expect(last.job.status).toBe('succeeded')
  const again = await Array.fromAsync(easel.events(id))
  const lasting = (event: FollowedEvent): boolean => event.type !== 'queue'
  expect(again.filter(lasting)).toEqual(events.filter(lasting))
  expect(await easel.wait(id)).toEqual(last.job)
})

test('cancel ends a running job, wait returns it as canceled, and canceling it again is harmless', async () => {
  const { id } = await easel.create({ ...quick, num_inference_steps: 200, num_images_per_prompt: 4, width: 256, height: 256 })
  for await (const event of easel.events(id)) if (event.type === 'progress') break
  expect(await easel.cancel(id)).toMatchObject({ id })
  expect(await easel.wait(id)).toMatchObject({ id, status: 'canceled', output: null })
  expect(await easel.cancel(id)).toMatchObject({ id, status: 'canceled' })
})

test('delete removes a job and its pictures', async () => {
  const { id, output } = await easel.run(quick)
  await easel.delete(id)
  await expect(easel.get(id)).rejects.toThrow(NotFoundError)
  await expect(easel.images.bytes(output.images[0])).rejects.toThrow(NotFoundError)
  await expect(easel.delete(id)).rejects.toThrow(NotFoundError)
})

test('list returns all jobs, newest first, over any number of pages', async () => {
  const made: Job[] = []
  for (let seed = 0; seed < 5; seed++) made.push(await easel.create({ ...quick, seed }))
  const wanted = made.map(({ id }) => id).reverse()
  const all = await Array.fromAsync(easel.list({ pageSize: 2 }), ({ id }) => id)
  expect(all.slice(0, 5)).toEqual(wanted)
  expect(all).toEqual([...new Set(all)])
  expect(all).toEqual(await Array.fromAsync(easel.list(), ({ id }) => id))
  for (const { id } of made) await easel.wait(id)
  const canceled = await Array.fromAsync(easel.list({ status: 'canceled', pageSize: 1 }), ({ status }) => status)
  expect(canceled).toEqual(['canceled'])
  const page = await easel.listPage({ limit: 3, status: 'succeeded' })
  expect(page.jobs.map(({ id }) => id)).toEqual(wanted.slice(0, 3))
  const { jobs } = await easel.listPage({ limit: 2, cursor: page.next ?? '' })
  expect(jobs.map(({ id }) => id).slice(0, 2)).toEqual(wanted.slice(3))
})

test('a job can begin with an uploaded picture or one of an earlier job, and have a mask', async () => {
  const red = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
    .png()
    .toBuffer()
  const upload = await easel.upload(red)
  expect(upload).toMatchObject({ sha256: sha256(red), bytes: red.length, width: 64, height: 64, content_type: 'image/png' })
  expect((await easel.upload(new Blob([new Uint8Array(red)], { type: 'image/png' }))).sha256).toBe(upload.sha256)
  const first = await easel.run({ ...quick, image: upload, strength: 0.5 })
  expect(first.input.image?.sha256).toBe(upload.sha256)
  const [image] = first.output.images
  const second = await easel.run({ ...quick, image, mask: upload, strength: 0.5 })
  expect(second.input).toMatchObject({ image: { sha256: image.sha256 }, mask: { sha256: upload.sha256 } })
  const third = await easel.run({ ...quick, image: `job:${first.id}`, strength: 0.5 })
  expect(third.input.image?.sha256).toBe(upload.sha256)
  await easel.deleteUpload(upload.id)
  await expect(easel.run({ ...quick, image: upload, strength: 0.5 })).rejects.toThrow(InvalidRequestError)
})

test('capabilities, usage and replay return what they return over HTTP', async () => {
  const { models } = await easel.capabilities()
  expect(models).toMatchObject([{ id: 'tiny-scenes', default: true, workers: 1 }])
  const job = await easel.run(quick)
  const replayed = await easel.wait((await easel.replay(job.id)).id)
  expect(replayed.replay).toMatchObject({ of: job.id, identical: true })
  const images = (ended: Job): Image['sha256'][] | undefined => ended.output?.images.map(({ sha256 }) => sha256)
  expect(images(replayed)).toEqual(images(job))
  const usage = await easel.usage()
  expect(usage.owner).toBe('public')
  expect(usage.retained.jobs).toBeGreaterThanOrEqual(2)
})

test('a webhook message from the service is accepted, and an altered one is not', async () => {
  const told = Promise.withResolvers<WebhookMessage>()
  const forged = Promise.withResolvers<unknown>()
  const server = createServer((request, response) => {
    void (async () => {
      const body = await buffer(request)
      verifyWebhook(body, request.headers, ['whsec_AAAA', secret]).then(told.resolve, told.reject)
      verifyWebhook(Buffer.concat([body, Buffer.from(' ')]), request.headers, secret).then(forged.reject, forged.resolve)
      response.writeHead(204).end()
    })()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  try {
    const webhook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const { id } = await easel.run({ ...quick, webhook })
    expect(await told.promise).toMatchObject({ id: `msg_${id}_completed`, type: 'job.completed', data: { id, status: 'succeeded' } })
    expect(await forged.promise).toMatchObject({ code: 'invalid_webhook' })
  } finally {
    server.close()
  }
})
