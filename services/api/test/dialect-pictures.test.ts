/** Input pictures that arrive through the published clients of other services. The worker is simulated. */
import { setTimeout as sleep } from 'node:timers/promises'
import { createFalClient } from '@fal-ai/client'
import OpenAI, { BadRequestError } from 'openai'
import Replicate from 'replicate'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JobInput } from '@easel/contract'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'

const [key, otherKey] = ['a-key-for-tests', 'another-key-for-tests']
const prompt = 'a blue boat on the sea'
let api: TestApi
let openai: OpenAI
/** Ends the simulated worker. */
const leaving = new AbortController()
let working: Promise<void>

beforeAll(async () => {
  api = await startTestApi({
    model: { ...tinyScenes, has_vae_encoder: true },
    env: { API_KEYS: `tests:${key},others:${otherKey}`, MAX_INPUT_BYTES: '300000' },
  })
  openai = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: key })
  working = work()
})
afterAll(async () => {
  leaving.abort()
  await working
  await api.close()
})

/** What the simulated worker does: every job that waits succeeds. */
async function work(): Promise<void> {
  while (!leaving.signal.aborted) {
    for (const { id } of await api.worker.store.list('', { status: 'queued', limit: 10 })) await api.worker.succeed(id)
    await sleep(50)
  }
}

async function paint(width = 96, height = 64, alpha?: number): Promise<Buffer> {
  const background = { r: 200, g: 40, b: 30, alpha: alpha ?? 1 }
  return await sharp({ create: { width, height, channels: alpha === undefined ? 3 : 4, background } })
    .png()
    .toBuffer()
}

/** A picture that is opaque on the left and transparent on the right. */
async function halfTransparent(): Promise<Buffer> {
  const right = await paint(48, 64, 0)
  const left = await paint(48, 64, 1)
  const empty = sharp({ create: { width: 96, height: 64, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
  return await empty
    .composite([
      { input: left, left: 0, top: 0 },
      { input: right, left: 48, top: 0 },
    ])
    .png()
    .toBuffer()
}

function toFile(bytes: Buffer, name = 'picture.png'): File {
  return new File([new Uint8Array(bytes)], name, { type: 'image/png' })
}

async function latestInput(): Promise<JobInput> {
  const [job] = await api.worker.store.list('', { limit: 1 })
  if (job === undefined) throw new Error('Expected a job, got none')
  return job.input
}

/** The first and the last pixel in the middle row of a stored mask: 0 is kept, 255 is painted. */
async function maskEnds({ mask }: JobInput): Promise<number[]> {
  const object = await api.deps.storage.open(`inputs/${mask?.sha256}`)
  const bytes = Buffer.from(await new Response(object?.body).arrayBuffer())
  const { data, info } = await sharp(bytes).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true })
  expect((await sharp(bytes).metadata()).channels).toBe(1)
  expect([info.channels, info.width, info.height]).toEqual([1, 96, 64])
  const row = data.subarray(32 * 96, 33 * 96)
  return [row[0] ?? -1, row[95] ?? -1]
}

describe('the openai package', () => {
  test('edits a picture, with every parameter that a form can carry as text', async () => {
    const own = { strength: 0.5, num_inference_steps: 10, seed: 7 }
    const image = toFile(await paint())
    const answer = await openai.images.edit({ image, prompt, n: 2, response_format: 'url', ...own })
    expect(answer.data).toHaveLength(2)
    expect(await latestInput()).toMatchObject({ prompt, ...own, num_images_per_prompt: 2, width: 96, height: 64, fit: 'cover' })
    const sized = await openai.images.edit({ image: [image], prompt: '12', size: '64x64', output_format: 'webp', input_fidelity: 'high' })
    expect(sized.size).toBe('64x64')
    expect(await latestInput()).toMatchObject({ prompt: '12', width: 64, height: 64, output_format: 'webp' })
    expect((await latestInput()).mask).toBeUndefined()
  })

  test('makes one job of a request that is sent twice with one key, however large its picture is', async () => {
    const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const
    const create = { width: 340, height: 260, channels: 3, background: '#888', noise } as const
    const large = await sharp({ create }).png().toBuffer()
    expect(large.length).toBeGreaterThan(200_000)
    const edit = async (bytes: Buffer): Promise<unknown> => {
      const body = { image: toFile(bytes), prompt, response_format: 'url' } as const
      return await openai.images.edit(body, { headers: { 'Idempotency-Key': 'one edit' } }).catch((error: unknown) => error)
    }
    const first = await edit(large)
    expect(await edit(large)).toEqual(first)
    expect(await edit(await paint())).toMatchObject({ status: 422, code: 'idempotency_mismatch' })
  })

  test('paints where its mask is transparent or, without a mask, where the picture is', async () => {
    const half = await halfTransparent()
    await openai.images.edit({ image: toFile(await paint()), mask: toFile(half), prompt })
    expect(await maskEnds(await latestInput())).toEqual([0, 255])
    await openai.images.edit({ image: toFile(half), prompt })
    expect(await maskEnds(await latestInput())).toEqual([0, 255])
  })

  test('streams events under the names that edits have', async () => {
    const stream = await openai.images.edit({ image: toFile(await paint()), prompt, stream: true, partial_images: 1 })
    const types: string[] = []
    for await (const event of stream) types.push(event.type)
    expect(types).toEqual(['image_edit.completed'])
  })

  test('throws its own error, which names the parameter', async () => {
    const image = toFile(await paint())
    const failure = async (body: object): Promise<unknown> =>
      await openai.images.edit({ image, prompt, ...body }).catch((error: unknown) => error)
    const two = await failure({ image: [image, image] })
    expect(two).toBeInstanceOf(BadRequestError)
    expect(two).toMatchObject({ status: 400, param: 'image', code: 'invalid_image', type: 'invalid_request_error' })
    expect((two as Error).message).toMatch(/expected one picture, as a file, got 2/)
    expect(await failure({ mask: image })).toMatchObject({ status: 400, param: 'mask', code: 'invalid_image' })
    expect(await failure({ image: toFile(Buffer.from('<svg/>'), 'a.svg') })).toMatchObject({ status: 400, param: 'image' })
    expect(await failure({ image: toFile(await paint(8, 8)) })).toMatchObject({ status: 400, param: 'image' })
    expect(await failure({ image: toFile(Buffer.alloc(300_001)) })).toMatchObject({ status: 413, param: 'image', code: 'image_too_large' })
    expect(await failure({ n: 11 })).toMatchObject({ status: 400, param: 'n', code: 'invalid_value' })
    expect(await failure({ size: '100x100' })).toMatchObject({ status: 400, param: 'size' })
    expect(await failure({ mood: 'vivid' })).toMatchObject({ status: 400, param: 'mood', code: 'unknown_parameter' })
    expect(await failure({ prompt: undefined })).toMatchObject({ status: 400, param: 'prompt', code: 'missing_required_parameter' })
  })
})

test('the replicate package uploads its files first and refers to them, and has prompt_strength', async () => {
  const replicate = new Replicate({ baseUrl: `${api.url}/v1`, auth: key })
  const bytes = await paint()
  const input = { prompt, image: toFile(bytes), mask: await paint(96, 64), prompt_strength: 0.4 }
  const output = (await replicate.run('local/tiny-scenes', { input, wait: { mode: 'poll', interval: 50 } })) as unknown[]
  expect(output).toHaveLength(1)
  const made = await latestInput()
  expect(made).toMatchObject({ strength: 0.4, image: { bytes: bytes.length, width: 96, height: 64 }, mask: { width: 96 } })
  const file = await replicate.files.create(bytes)
  expect(await replicate.files.get(file.id)).toEqual(file)
  expect(file).toMatchObject({ size: bytes.length, checksums: { sha256: made.image?.sha256 } })
  const stranger = new Replicate({ baseUrl: `${api.url}/v1`, auth: otherKey })
  await expect(stranger.files.get(file.id)).rejects.toThrow(/404/)
  const stolen = stranger.predictions.create({ model: 'local/tiny-scenes', input: { prompt, image: file.urls.get } })
  await expect(stolen).rejects.toThrow(/input.image: expected an upload of yours/)
  await expect(stranger.files.delete(file.id)).rejects.toThrow(/404/)
  expect(await replicate.files.delete(file.id)).toBe(true)
  await expect(replicate.files.get(file.id)).rejects.toThrow(/404/)
  // It has no effect without a picture.
  await replicate.predictions.create({ model: 'local/tiny-scenes', input: { prompt, prompt_strength: 0.85 } })
  expect((await latestInput()).strength).toBeUndefined()
})

test('the fal client uploads its files to the storage and refers to them by image_url and mask_url', async () => {
  const fal = createFalClient({ credentials: key, proxyUrl: { url: `${api.url}/fal/proxy`, when: 'always' } })
  const bytes = await paint()
  const input = { prompt, image_url: toFile(bytes), mask_url: toFile(await halfTransparent()), strength: 0.7 }
  await fal.subscribe('local/tiny-scenes', { input, pollInterval: 50 })
  const made = await latestInput()
  expect(made).toMatchObject({ strength: 0.7, image: { bytes: bytes.length }, mask: { width: 96, height: 64 } })

  const url = await fal.storage.upload(toFile(bytes))
  expect(url).toMatch(new RegExp(`^${api.url}/v1/uploads/`))
  await fal.run('local/tiny-scenes', { input: { prompt, image_url: url } })
  expect((await latestInput()).image?.sha256).toBe(made.image?.sha256)
  await expect(fal.storage.upload(toFile(Buffer.from('<html>')))).rejects.toMatchObject({ status: 422 })
  expect((await api.get('/fal/storage/00000000-0000-4000-8000-000000000000', { method: 'PUT', body: new Uint8Array(bytes) })).status).toBe(
    404,
  )
  const refused = await fal.run('local/tiny-scenes', { input: { prompt, image_url: 'ftp://example.com' } }).catch((error: unknown) => error)
  expect(refused).toMatchObject({ status: 422, body: { detail: [{ loc: ['body', 'image_url'] }] } })
})
