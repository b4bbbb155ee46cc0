import { v7 as uuidv7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Job, Problem } from '@easel/contract'
import { provenance, startTestApi, tinyScenes } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
let nowMs: number | undefined

beforeAll(async () => {
  const env = { RESULT_TTL: '60', API_KEYS: 'ann:key-of-ann-1234567890,ben:key-of-ben-1234567890', MAX_QUEUED_JOBS_PER_KEY: '20' }
  api = await startTestApi({ env, now: () => nowMs ?? Date.now() })
})
afterAll(async () => {
  await api.close()
})

const asAnn = { Authorization: 'Bearer key-of-ann-1234567890' }
const asBen = { Authorization: 'Bearer key-of-ben-1234567890' }

async function submit(body: Record<string, unknown> = {}): Promise<Job> {
  const response = await api.post('/v1/jobs', { prompt: 'a red boat on the sea', ...body }, asAnn)
  expect(response.status).toBe(202)
  return (await response.json()) as Job
}

async function read(id: string): Promise<Job> {
  return (await (await api.get(`/v1/jobs/${id}`, { headers: asAnn })).json()) as Job
}

function replay(id: string, headers: Record<string, string> = asAnn): Promise<Response> {
  return api.get(`/v1/jobs/${id}/replay`, { method: 'POST', headers })
}

async function succeeded(body?: Record<string, unknown>): Promise<Job> {
  const { id } = await submit(body)
  await api.worker.succeed(id)
  return read(id)
}

describe('the receipt of a job', () => {
  test('exists once the job has succeeded, with what made it, every parameter, and the seed and hash of every picture', async () => {
    const queued = await submit({ seed: 7, num_images_per_prompt: 2, prompt_3: 'a calm sea' })
    expect([queued.receipt, queued.replay]).toEqual([null, null])
    await api.worker.succeed(queued.id)
    const { receipt, input, output } = await read(queued.id)
    expect(receipt).toEqual({
      ...provenance,
      parameters: input,
      images: [
        { seed: 7, sha256: output?.images[0]?.sha256 },
        { seed: 8, sha256: output?.images[1]?.sha256 },
      ],
    })
    expect(receipt?.parameters).toMatchObject({ seed: 7, prompt_3: 'a calm sea', num_inference_steps: 20, guidance_scale: 4 })
  })

  test('does not exist for a job that failed or was canceled', async () => {
    const [failed, canceled] = [await submit(), await submit()]
    await api.worker.store.start(failed.id, 'test-worker')
    await api.worker.store.end(failed.id, { status: 'failed', error: { code: 'internal', message: 'x', retryable: true } })
    await api.worker.store.requestCancel(canceled.id)
    for (const { id } of [failed, canceled]) expect((await read(id)).receipt).toBeNull()
  })
})

describe('a replay', () => {
  test('is a new job with the same parameters, answered like a submit', async () => {
    const webhook = 'https://example.com/hook'
    const words = { prompt_2: 'two', negative_prompt: 'a box' }
    const more = { sigmas: [1, 0.5], guidance_interval: [0, 0.5], clip_skip: 1, output_format: 'webp', output_quality: 7 }
    const original = await succeeded({ ...words, ...more, webhook, priority: 5, seed: Number.MAX_SAFE_INTEGER })
    const response = await replay(original.id)
    expect(response.status).toBe(202)
    const made = (await response.json()) as Job
    expect(made.id).not.toBe(original.id)
    expect([response.headers.get('location'), response.headers.get('retry-after')]).toEqual([`/v1/jobs/${made.id}`, '1'])
    expect(made).toMatchObject({ status: 'queued', receipt: null })
    expect(made.input).toEqual(original.input)
    expect(made.input).toMatchObject({ ...words, ...more, seed: Number.MAX_SAFE_INTEGER })
    expect(made.replay).toEqual({ of: original.id, identical: null, note: null })
    // Priority and webhook belong to the first request and are not repeated.
    const [before, now] = await api.worker.store.getMany([original.id, made.id])
    expect([before?.priority, before?.webhook]).toEqual([5, webhook])
    expect([now?.priority, now?.webhook, now?.owner]).toEqual([0, undefined, before?.owner])
  })

  test('says whether the files are the same and, if not, what was different when they were made', async () => {
    const original = await succeeded()
    const made = (await (await replay(original.id)).json()) as Job
    // The replay remembers what it repeats.
    await api.worker.store.delete(original.id)
    await api.worker.succeed(made.id, {
      ...provenance,
      runtime: 'onnxruntime-node 9.9.9',
      model: { id: 'tiny-scenes', content_hash: 'f00' },
    })
    expect((await read(made.id)).replay).toEqual({
      of: original.id,
      identical: false,
      note: `Made differently. hash of the model: was ${tinyScenes.content_hash}, is f00; runtime: was ${tinyScenes.runtime}, is onnxruntime-node 9.9.9.`,
    })
  })

  test('of a replay is compared with that replay', async () => {
    const first = (await (await replay((await succeeded()).id)).json()) as Job
    await api.worker.succeed(first.id)
    const second = (await (await replay(first.id)).json()) as Job
    expect(second.replay?.of).toBe(first.id)
  })

  test('is refused with 409 for a job without a receipt, 404 for an unknown or a foreign one, and 410 for an expired one', async () => {
    const { id } = await submit()
    const refused = await replay(id)
    expect([refused.status, ((await refused.json()) as Problem).code]).toEqual([409, 'no_receipt'])
    const done = await succeeded()
    expect((await replay(done.id, asBen)).status).toBe(404)
    expect((await replay(done.id, {})).status).toBe(401)
    expect((await replay(uuidv7())).status).toBe(404)
    expect((await replay('nonsense')).status).toBe(404)
    nowMs = Date.now() + 61_000
    expect((await replay(done.id)).status).toBe(410)
    nowMs = undefined
  })

  test('is made once for an Idempotency-Key, which stands for that replay alone', async () => {
    const [one, other] = [await succeeded({ seed: 1 }), await succeeded({ seed: 1 })]
    const headers = { ...asAnn, 'Idempotency-Key': 'replay-1' }
    const answers = await Promise.all([replay(one.id, headers), replay(one.id, headers)])
    expect(answers.map(({ status }) => status)).toEqual([202, 202])
    const [first, second] = (await Promise.all(answers.map((answer) => answer.json()))) as Job[]
    expect(second?.id).toBe(first?.id)
    expect((await replay(other.id, headers)).status).toBe(422)
    expect((await api.post('/v1/jobs', one.input, headers)).status).toBe(422)
  })

  test('is answered when it has ended if the request prefers that', async () => {
    const { id } = await succeeded()
    const answer = replay(id, { ...asAnn, Prefer: 'wait=30' })
    for (;;) {
      const queued = await api.worker.store.list('', { status: 'queued', limit: 100 })
      const made = queued.find(({ replayOf }) => replayOf?.id === id)
      if (made === undefined) continue
      await api.worker.succeed(made.id)
      break
    }
    expect((await answer).status).toBe(200)
    expect(((await (await answer).json()) as Job).replay?.identical).toBe(false)
  })

  test('is subject to the limits of a submit', async () => {
    const { id } = await succeeded()
    const statuses: number[] = []
    for (let n = 0; n < 21; n++) statuses.push((await replay(id)).status)
    expect(statuses).toContain(202)
    expect(statuses.at(-1)).toBe(429)
  })
})
