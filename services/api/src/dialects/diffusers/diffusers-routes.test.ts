import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Problem } from '@easel/contract'
import { startTestApi } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'

let api: TestApi
/** A replica that waits for a second only, for the tests in which the job does not end in time. */
let hasty: TestApi
beforeAll(async () => {
  api = await startTestApi()
  hasty = await startTestApi({ redis: api.redis, env: { INFERENCE_WAIT: '1' } })
})
afterAll(async () => {
  await hasty.close()
  await api.close()
})

const path = '/api/diffusers/inference'

/** Posts a request and, while it waits, calls `act` with the id of the job it made. */
async function infer(body: unknown, act: (id: string) => Promise<unknown>): Promise<Response> {
  return await api.postMeanwhile(path, body, act)
}

describe('POST /api/diffusers/inference', () => {
  test('waits for the pictures and answers with their absolute URLs', async () => {
    let made = ''
    const body = { model: null, prompt: 'a', negative_prompt: null, num_inference_steps: null, num_images_per_prompt: 2, height: 'ignored' }
    const response = await infer(body, async (id) => {
      made = id
      await api.worker.succeed(id)
    })
    expect(response.status).toBe(200)
    const urls = [0, 1].map((n) => `${api.url}/images/${made}-${n}.png`)
    expect(await response.json()).toEqual({ response: urls })
    expect((await fetch(urls[1] ?? '')).status).toBe(200)
    const record = await api.worker.store.get(made)
    expect(record?.input).toMatchObject({ num_inference_steps: 20, negative_prompt: '', height: 128 })
    expect(record?.input.seed).toBeLessThan(2 ** 32)
  })

  test('answers a blank prompt with 400 and the wording that older clients know', async () => {
    for (const prompt of ['', '  \n']) {
      const response = await api.post(path, { prompt })
      const problem = (await response.json()) as Problem
      expect([response.status, problem.status, problem.detail]).toEqual([400, 400, 'No prompt provided'])
      expect(response.headers.get('content-type')).toBe('application/problem+json')
    }
  })

  test('answers any invalid body with 422 and a detail', async () => {
    const send = (body: string): Promise<Response> =>
      api.get(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
    const bodies = ['{', '[]', '{}', '{"prompt": null}', '{"prompt": 3}', '{"prompt": "a", "num_inference_steps": 0}']
    const more = [
      '{"prompt": "a", "num_images_per_prompt": 11}',
      '{"prompt": "a", "num_inference_steps": "20"}',
      '{"prompt": "a", "model": "x"}',
    ]
    for (const body of [...bodies, ...more]) {
      const response = await send(body)
      expect([body, response.status]).toEqual([body, 422])
      expect(((await response.json()) as Problem).detail?.length).toBeGreaterThan(0)
    }
  })

  test('answers with 500 and the reason when the job has failed', async () => {
    const error = { code: 'out_of_memory' as const, message: 'The job needs more memory than the device has free.', retryable: true }
    const response = await infer({ prompt: 'a' }, (id) => api.worker.store.end(id, { status: 'failed', error }))
    expect([response.status, ((await response.json()) as Problem).detail]).toEqual([500, `Error in processing: ${error.message}`])
  })

  test('answers with 500 when the job is canceled in the meantime', async () => {
    const response = await infer({ prompt: 'a' }, (id) => api.worker.store.requestCancel(id))
    expect([response.status, ((await response.json()) as Problem).detail]).toEqual([500, 'Error in processing: The job was canceled.'])
  })

  test('answers with 504 when the job takes longer than the wait, and the job can then be polled', async () => {
    const response = await hasty.post(path, { prompt: 'a' })
    expect([response.status, ((await response.json()) as Problem).code]).toEqual([504, 'wait_timeout'])
    const poll = await api.get(response.headers.get('location') ?? '')
    expect(poll.status).toBe(200)
  })

  test('makes one job for one Idempotency-Key, and refuses another body with that key', async () => {
    const ask = (prompt: string): Promise<Response> => hasty.post(path, { prompt }, { 'Idempotency-Key': 'same' })
    const [first, second] = [await ask('a'), await ask('a')]
    expect([first.status, second.status, second.headers.get('idempotency-replayed')]).toEqual([504, 504, 'true'])
    expect(second.headers.get('location')).toBe(first.headers.get('location'))
    const other = await ask('b')
    expect([other.status, ((await other.json()) as Problem).code]).toEqual([422, 'idempotency_mismatch'])
  })

  test('keeps its answer short however long the refused value is', async () => {
    const response = await api.post(path, { prompt: 'a', model: 'm'.repeat(1_000_000) })
    expect([response.status, (await response.text()).length < 2000]).toEqual([422, true])
  })
})

test('GET /api/status counts everything that shares the queue', async () => {
  const read = async (): Promise<Record<string, unknown>> => (await (await api.get('/api/status')).json()) as Record<string, unknown>
  const before = await read()
  expect(before).toMatchObject({ current_model: 'tiny-scenes', type_models: 't2im', memory: {}, active_inferences: 0, workers: 0 })
  const { id } = await api.submit()
  await api.worker.store.start(id, 'w')
  const base = { model: 'tiny-scenes', concurrency: 8, active: 1, engine_memory_bytes: 100, ready: true }
  await api.worker.registry.heartbeat({ ...base, id: 'a', device: 'cuda:0', gpu: { memory_allocated_gb: 1.5, memory_reserved_gb: 2 } })
  const counts = { steps: 10, rows: 80, step_seconds: 0.5, wait_seconds: 0.1, waiting_rows: 4, batching_gain: 1.6 }
  const memory = { memory_estimated_bytes: 2e9, memory_waiting: 1, memory_shortages: 2 }
  const engine = { ...counts, ...memory, prompt_cache_hits: 3, prompt_cache_misses: 1 }
  await api.worker.registry.heartbeat({ ...base, id: 'b', device: 'cpu', engine })
  expect(await read()).toMatchObject({
    active_inferences: 1,
    total_requests: Number(before['total_requests']) + 1,
    memory: { memory_allocated_gb: 1.5, memory_reserved_gb: 2, device: 'cuda:0' },
    engine_memory_bytes: 200,
    workers: 2,
    engines: [{ worker: 'b', model: 'tiny-scenes', ...engine }],
  })
})
