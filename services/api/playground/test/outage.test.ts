/** What the page says when a part of the service is away: the workers, Redis, the api itself. The worker is simulated; everything else is real. */
import type { Browser, Locator, Route } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startRedis, type RedisServer } from '@easel/job-store/test/redis-server'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { startTestApi, tinyScenes, type TestApi } from '../../test/start-api.ts'
import { findHindrances, openPage, type OpenedPage, untilDrawn } from './open-page.ts'

const executable = findChromium()

const heartbeat = { id: 'w1', concurrency: 8, active: 0, device: 'cpu', engine_memory_bytes: 1, ready: true }

describe.skipIf(executable === undefined)('the playground while something is away', () => {
  let redis: RedisServer
  let api: TestApi
  let browser: Browser
  let opened: OpenedPage
  let beating: NodeJS.Timeout | undefined

  beforeAll(async () => {
    ensurePlayground()
    redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
    // Alphabetically first, and not the default.
    api = await startTestApi({ redis, env: { MODEL: 'tiny-scenes' } })
    await api.worker.registry.announce({ ...tinyScenes, id: 'another' })
    browser = await launchChromium(executable ?? '')
  })
  afterAll(async () => {
    await browser.close()
    await api.close()
    await redis.stop()
  })
  afterEach(async () => {
    await opened.context.close()
    await stopWorker()
  })

  async function beginWorker(): Promise<void> {
    const beat = async (): Promise<void> => await api.worker.registry.heartbeat({ ...heartbeat, model: 'tiny-scenes' })
    await beat()
    beating = setInterval(() => void beat().catch(() => {}), 2000)
  }
  async function stopWorker(): Promise<void> {
    clearInterval(beating)
    await api.worker.registry.removeWorker('w1')
  }
  const open = async (options: Parameters<typeof openPage>[2] = {}): Promise<void> => {
    opened = await openPage(browser, api.url, options)
  }
  const banner = (): Locator => opened.page.locator('.banner')
  const card = (id: string): Locator => opened.page.locator(`[data-job="${id}"]`)
  const make = (): Locator => opened.page.getByRole('button', { name: /^Make|^Sending/ })

  test('without a worker it says that jobs wait, also at the job itself, until a worker begins', async () => {
    const { id } = await api.submit()
    await open()
    await banner().getByText('No worker is running now.').waitFor()
    await card(id).getByText('Waiting for a worker').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await beginWorker()
    await banner().waitFor({ state: 'hidden' })
    await card(id).getByText('Waiting for a worker').waitFor({ state: 'hidden' })
    await stopWorker()
    await banner().getByText('No worker is running now.').waitFor()
    expect(opened.complaints).toEqual([])
  })

  test('the model that is shown is the one that is sent: the server’s default, unless another was chosen', async () => {
    await open()
    const model = opened.page.getByLabel('Model')
    expect(await model.inputValue()).toBe('tiny-scenes')
    for (const chosen of ['tiny-scenes', 'another']) {
      await model.selectOption(chosen)
      await opened.page.getByLabel('Prompt').first().fill(`by ${chosen}`)
      const [request] = await Promise.all([opened.page.waitForRequest((asked) => asked.method() === 'POST'), make().click()])
      expect(request.postDataJSON()).toMatchObject({ model: chosen })
    }
    await model.getByRole('option', { name: /another.*no worker/ }).waitFor({ state: 'attached' })
    // A model that was chosen once may be gone.
    await opened.page.evaluate(() => localStorage.setItem('easel.settings', JSON.stringify({ model: 'gone' })))
    await opened.page.reload()
    await opened.page.getByLabel('Model').waitFor()
    expect(await model.inputValue()).toBe('tiny-scenes')
  })

  test('while Redis is away cards reconnect, and a request that cannot be met is refused where it was made', async () => {
    await beginWorker()
    const { id } = await api.submit()
    await api.worker.store.start(id, 'w1')
    await open()
    const job = card(id)
    await job.getByRole('progressbar').waitFor()
    await redis.kill()
    await job.getByRole('button', { name: /^Cancel/ }).click()
    await job.getByText('Not canceled: ').waitFor()
    await job.getByText('Reconnecting …').waitFor()
    await banner().getByText('The queue does not answer.').waitFor()
    await opened.page.getByLabel('Prompt').first().fill('a boat')
    await make().click()
    await opened.page.locator('form [role=alert]').waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await redis.restart()
    await banner().waitFor({ state: 'hidden' })
    await job.getByText('Reconnecting …').waitFor({ state: 'hidden' })
    await api.worker.succeed(id)
    await expect.poll(async () => await job.getAttribute('data-status'), { timeout: 60_000 }).toBe('succeeded')
    expect(opened.complaints).toEqual([])
  })

  test('a gallery that could not be read is read when the service is back', async () => {
    const { id } = await api.submit()
    await redis.kill()
    await open()
    await banner().getByText('The queue does not answer.').waitFor()
    expect(await opened.page.getByText('Nothing here yet').count()).toBe(0)
    await redis.restart()
    await card(id).waitFor()
  })

  test('when the server itself is out of reach the page says so, and continues by itself afterwards', async () => {
    await beginWorker()
    const { id } = await api.submit()
    await open()
    await card(id).getByRole('progressbar').waitFor()
    await opened.context.setOffline(true)
    await banner().getByText('The server does not answer.').waitFor()
    await card(id).getByText('Reconnecting …').waitFor()
    await opened.context.setOffline(false)
    await banner().waitFor({ state: 'hidden' })
    await api.worker.succeed(id)
    await expect.poll(async () => await card(id).getAttribute('data-status'), { timeout: 60_000 }).toBe('succeeded')
  })

  test('a request is sent once however often the button is pressed, and on a phone its card comes into view', async () => {
    await open({ viewport: { width: 360, height: 640 }, reducedMotion: 'reduce' })
    let held: Route | undefined
    let posts = 0
    await opened.page.route('**/v1/jobs', async (route) => {
      if (route.request().method() !== 'POST') return await route.continue()
      posts++
      held = route
    })
    await opened.page.getByLabel('Prompt').first().fill('pressed three times')
    await make().click()
    await opened.page.getByRole('button', { name: 'Sending …' }).waitFor()
    // Forced, because Playwright would wait until the button is no longer busy.
    await make().click({ force: true })
    await opened.page.getByLabel('Prompt').first().press('Control+Enter')
    expect(await make().getAttribute('aria-busy')).toBe('true')
    await expect.poll(() => posts).toBe(1)
    await held?.continue()
    const made = opened.page.locator('.card', { hasText: 'pressed three times' })
    await expect.poll(async () => await made.count()).toBe(1)
    const top = async (): Promise<number> => (await made.boundingBox())?.y ?? -1
    await expect.poll(async () => (await top()) >= 0 && (await top()) < 640).toBe(true)
    expect(posts).toBe(1)
    expect((await api.get('/v1/jobs').then(async (answer) => await answer.text())).split('pressed three times').length - 1).toBe(1)
  })

  test('a job whose end is known before the answer to its cancellation arrives stays ended', async () => {
    const { id } = await api.submit()
    await api.worker.store.start(id, 'w1')
    await open()
    const status = async (): Promise<string | null> => await card(id).getAttribute('data-status')
    await card(id).getByRole('progressbar').waitFor()
    await opened.page.route('**/cancel', async (route) => {
      const response = await route.fetch()
      await api.worker.store.end(id, { status: 'canceled' })
      await expect.poll(status).toBe('canceled')
      await route.fulfill({ response })
    })
    const answered = opened.page.waitForEvent('requestfinished', (request) => request.url().endsWith('/cancel'))
    await card(id)
      .getByRole('button', { name: /^Cancel/ })
      .click()
    expect((await (await (await answered).response())?.json()) as unknown).toMatchObject({ status: 'running' })
    // The next frame shows what the page makes of the answer.
    await untilDrawn(opened.page)
    expect(await status()).toBe('canceled')
  })

  test('everything that is wrong is said at once, each thing at its field', async () => {
    await open()
    await opened.page.getByLabel('Prompt').first().fill(' ')
    await opened.page.getByText('Custom').click()
    await opened.page.getByLabel('Width').fill('100')
    await opened.page.getByText('Advanced settings').click()
    await opened.page.getByLabel('Steps').fill('0')
    // Folded again; it unfolds by itself when something in it is wrong.
    await opened.page.getByText('Advanced settings').click()
    await make().click()
    for (const field of ['prompt', 'width', 'num_inference_steps']) await opened.page.locator(`#${field}-error`).waitFor()
    const prompt = opened.page.getByLabel('Prompt').first()
    await expect.poll(async () => await prompt.evaluate((element) => element === document.activeElement)).toBe(true)
  })
})
