import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
let replica: TestApi
/** By how many ms the clock is ahead. Every scrape advances it, because a reading is used for a second. */
let ahead = 0
const now = (): number => Date.now() + ahead
beforeAll(async () => {
  // A message that was not delivered is not tried again during the tests.
  const env = { WEBHOOK_RETRY_DELAYS: '0,3600' }
  api = await startTestApi({ env: { ...env, API_KEYS: 'a-key-of-ours', RATE_LIMIT: '1000/min', WEBHOOK_ALLOW_INSECURE: 'true' }, now })
  replica = await startTestApi({ redis: api.redis, model: null, env, now })
})
afterAll(async () => {
  await replica?.close()
  await api?.close()
  await api?.redis.stop()
})

const waiting = 'easel_queue_depth{state="waiting",model="tiny-scenes"}'
const headers = { Authorization: 'Bearer a-key-of-ours' }

async function scrape(of: TestApi): Promise<Map<string, number>> {
  ahead += 1001
  const response = await of.get('/metrics')
  expect([response.status, response.headers.get('content-type')]).toEqual([200, expect.stringContaining('text/plain')])
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]))
}

describe('GET /metrics', () => {
  test('counts requests by route, not by id, and all those without a route together', async () => {
    for (const path of ['/v1/jobs/1', '/v1/jobs/2', '/no/such/path']) await api.get(path, { headers })
    await api.get('/v1/jobs')
    const metrics = await scrape(api)
    expect(metrics.get('easel_http_requests_total{method="GET",route="/v1/jobs/:id",status="404"}')).toBe(2)
    expect(metrics.get('easel_http_requests_total{method="GET",route="none",status="404"}')).toBe(1)
    expect([...metrics.keys()].filter((name) => name.includes('status="401"'))).toHaveLength(1)
    expect(metrics.get('easel_http_request_duration_seconds_count{method="GET",route="/v1/jobs/:id"}')).toBe(2)
    expect(metrics.get('nodejs_eventloop_lag_p99_seconds')).toBeGreaterThanOrEqual(0)
  })

  test('tells the depth, age and work of the queue at one replica only, until that is no longer scraped', async () => {
    const before = await scrape(api)
    const queueGauges = [waiting, 'easel_oldest_job_age_seconds{model="tiny-scenes"}', 'easel_gpu_seconds_queued{model="tiny-scenes"}']
    expect(queueGauges.map((name) => before.get(name))).toEqual([0, 0, 0])
    // A step of a 128 × 128 picture takes 20 ms. There are 10 steps of 2 pictures, and 4 steps of a quarter of the size.
    const first = { prompt: 'a', num_inference_steps: 10, num_images_per_prompt: 2 }
    const second = { prompt: 'b', num_inference_steps: 4, width: 64, height: 64 }
    for (const body of [first, second]) expect((await api.post('/v1/jobs', body, headers)).status).toBe(202)
    const metrics = await scrape(api)
    expect(metrics.get(waiting)).toBe(2)
    expect(metrics.get('easel_queue_depth{state="active",model="tiny-scenes"}')).toBe(0)
    expect(metrics.get('easel_gpu_seconds_queued{model="tiny-scenes"}')).toBeCloseTo(0.02 * (20 + 1), 5)
    expect(metrics.get('easel_oldest_job_age_seconds{model="tiny-scenes"}')).toBeGreaterThan(0)
    expect(metrics.get('easel_workers{model="tiny-scenes"}')).toBe(0)

    const other = await scrape(replica)
    expect(other.has(waiting)).toBe(false)
    expect(other.has('nodejs_eventloop_lag_p99_seconds')).toBe(true)
    await api.deps.redis.pexpire(api.deps.store.keys.metricsLock, 1)
    await expect.poll(async () => (await scrape(replica)).get(waiting)).toBe(2)
    expect((await scrape(api)).has(waiting)).toBe(false)
  })

  test('counts a job that was canceled in the queue only once', async () => {
    const job = (await (await api.post('/v1/jobs', { prompt: 'c' }, headers)).json()) as { id: string }
    for (const _ of [1, 2]) await api.post(`/v1/jobs/${job.id}/cancel`, {}, headers)
    expect((await scrape(api)).get('easel_jobs_total{status="canceled",code=""}')).toBe(1)
  })

  test('counts attempts to deliver webhook messages by result, and tells how many messages wait', async () => {
    // Nobody listens there.
    const { id } = (await (await api.post('/v1/jobs', { prompt: 'd', webhook: 'http://127.0.0.1:9' }, headers)).json()) as { id: string }
    await api.post(`/v1/jobs/${id}/cancel`, {}, headers)
    const told = async (name: string): Promise<(number | undefined)[]> => [(await scrape(api)).get(name), (await scrape(replica)).get(name)]
    await expect.poll(() => told('easel_webhook_attempts_total{result="failed"}'), { timeout: 60_000 }).toContain(1)
    expect(await told('easel_webhook_attempts_total{result="delivered"}')).toEqual([0, 0])
    expect(await told('easel_webhook_queue_depth')).toContain(1)
  })
})
