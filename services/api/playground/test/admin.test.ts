/** The status page of operators: what it shows, and what it says when a part of the service is away. The worker is simulated; everything else is real. */
import type { Browser, Locator } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { heartbeatTtlSeconds } from '@easel/contract'
import { startRedis, type RedisServer } from '@easel/job-store/test/redis-server'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { startTestApi, type TestApi } from '../../test/start-api.ts'
import { findHindrances, openPage, type OpenedPage } from './open-page.ts'

const executable = findChromium()

const engine = {
  steps: 100,
  rows: 640,
  step_seconds: 9,
  wait_seconds: 1,
  waiting_rows: 3,
  batching_gain: 1.4,
  prompt_cache_hits: 0,
  prompt_cache_misses: 9,
  memory_estimated_bytes: 1,
  memory_waiting: 1,
  memory_shortages: 2,
}
const heartbeat = {
  id: 'worker-one',
  model: 'tiny-scenes',
  concurrency: 8,
  active: 3,
  device: 'cuda',
  engine_memory_bytes: 1.5 * 2 ** 30,
  engine,
  gpu: { memory_allocated_gb: 10.2, memory_reserved_gb: 24 },
  ready: true,
}

const credentials = { httpCredentials: { username: 'operator', password: 'an-operators-key' } }
const sights = [
  { name: 'a desktop', colorScheme: 'light', viewport: { width: 1400, height: 900 } },
  { name: 'a desktop in the dark', colorScheme: 'dark', viewport: { width: 1400, height: 900 } },
  { name: 'a tablet', colorScheme: 'light', viewport: { width: 800, height: 1100 } },
  { name: 'a phone', colorScheme: 'light', viewport: { width: 360, height: 780 } },
  { name: 'a phone in the dark', colorScheme: 'dark', viewport: { width: 360, height: 780 } },
] as const

describe.skipIf(executable === undefined)('the status page in a browser', () => {
  let redis: RedisServer
  let api: TestApi
  let browser: Browser
  let opened: OpenedPage
  let beating: NodeJS.Timeout | undefined

  beforeAll(async () => {
    ensurePlayground()
    redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
    api = await startTestApi({ redis, env: { ADMIN_KEY: 'an-operators-key' } })
    browser = await launchChromium(executable ?? '')
    const failed = await api.submit()
    const error = { code: 'out_of_memory' as const, message: 'The job needs more memory than the device has free.', retryable: true }
    await api.worker.store.start(failed.id, 'worker-one')
    await api.worker.store.end(failed.id, { status: 'failed', error, gpuMs: 90_000 })
    await api.submit()
    // Nobody listens there.
    await api.submit({ webhook: 'https://receiver.invalid/hook', webhook_events_filter: ['queued'] })
  })
  afterAll(async () => {
    await browser.close()
    await api.close()
    await redis.stop()
  })
  afterEach(async () => {
    clearInterval(beating)
    await opened.context.close()
    await api.worker.registry.removeWorker('worker-one')
  })

  async function beginWorker(): Promise<void> {
    const beat = async (): Promise<void> => await api.worker.registry.heartbeat(heartbeat)
    await beat()
    beating = setInterval(() => void beat().catch(() => {}), (heartbeatTtlSeconds * 1000) / 10)
  }
  const open = async (options: Parameters<typeof openPage>[2] = {}, path = '/admin'): Promise<void> => {
    opened = await openPage(browser, api.url, { ...credentials, ...options }, path)
  }
  const section = (name: string): Locator => opened.page.getByRole('region', { name })
  const row = (name: string, text: string): Locator => section(name).getByRole('row', { name: text })
  const says = (text: string): Locator => opened.page.getByRole('status').getByText(text)

  test.for(sights)('shows workers, queue, failures, shares and webhooks on $name, and is accessible', async ({ colorScheme, viewport }) => {
    await beginWorker()
    await open({ colorScheme, viewport })
    await row('Workers', 'worker-one takes jobs').waitFor()
    for (const text of ['1.5 GiB, GPU 10.2 of 24.0 GB', '3 of 8', '6.4, 3 waiting', '1 job waits for memory', 'memory ran out 2 times']) {
      await row('Workers', 'worker-one').getByText(text).waitFor()
    }
    expect(await section('Jobs').locator('[data-state=queued] dd').textContent()).toBe('2')
    expect(await section('Jobs').locator('[data-state=failed] dd').textContent()).toBe('1')
    await row('Models', 'tiny-scenes (default)').waitFor()
    await row('Failures', 'The job needs more memory than the device has free. out_of_memory').waitFor()
    await row('Shares', 'public (without a key)').getByText('1 min 30 s (100 %)').waitFor()
    await row('Webhooks', 'https://receiver.invalid queued').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    expect(opened.complaints).toEqual([])
  })

  test('a slash at the end of its address changes nothing', async () => {
    await open({}, '/admin/')
    await section('Models').waitFor()
    expect(opened.complaints).toEqual([])
  })

  test('without a worker it says that jobs wait, until a worker begins', async () => {
    await open()
    await says('No worker is available for tiny-scenes.').waitFor()
    await section('Workers').getByText('No worker has sent a heartbeat').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await beginWorker()
    await row('Workers', 'worker-one').waitFor()
    await says('No worker').waitFor({ state: 'hidden' })
  })

  test('while Redis or the server is away it reconnects by itself, and shows what it knew as old', async () => {
    await beginWorker()
    await open()
    await row('Workers', 'worker-one').waitFor()
    await redis.kill()
    await says('Reconnecting: Redis does not answer.').waitFor()
    await opened.page.getByText('Last known state, as of').waitFor()
    await row('Workers', 'worker-one').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await redis.restart()
    await says('Reconnecting').waitFor({ state: 'hidden' })
    await opened.context.setOffline(true)
    await says('Reconnecting: the server does not answer.').waitFor()
    await opened.context.setOffline(false)
    await says('Reconnecting').waitFor({ state: 'hidden' })
    await row('Workers', 'worker-one').waitFor()
  })

  test('opened while Redis is away, it shows everything once Redis is back', async () => {
    await redis.kill()
    // What was read just before is returned for another second.
    const headers = { Authorization: 'Bearer an-operators-key' }
    await expect.poll(async () => (await api.get('/admin/status', { headers })).status).toBe(503)
    await open()
    await says('Reconnecting: Redis does not answer.').waitFor()
    await opened.page.getByText('Nothing has been read yet.').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await redis.restart()
    await row('Models', 'tiny-scenes').waitFor()
  })
})
