/** The gallery with jobs that ended in every way: layout, lightbox, favourites, older pages, and deleting. The worker is simulated. */
import type { Browser, Locator } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { jobErrorTable, type Job } from '@easel/contract'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { startTestApi, tinyScenes, type TestApi } from '../../test/start-api.ts'
import { findHindrances, openPage, type OpenedPage, untilDrawn } from './open-page.ts'

const executable = findChromium()

const longPrompt = 'a very long prompt about a boat on the sea '.repeat(20).trim()

describe.skipIf(executable === undefined)('the gallery', () => {
  let api: TestApi
  let browser: Browser
  let opened: OpenedPage

  beforeAll(async () => {
    ensurePlayground()
    api = await startTestApi({ model: { ...tinyScenes, examples: ['a red boat on the sea', 'a big green cat at night'] } })
    browser = await launchChromium(executable ?? '')
  })
  afterAll(async () => {
    await browser.close()
    await api.close()
  })
  afterEach(async () => {
    await opened.context.close()
    for (const { id } of await listed()) await api.get(`/v1/jobs/${id}`, { method: 'DELETE' })
  })

  const listed = async (): Promise<Job[]> => ((await (await api.get('/v1/jobs?limit=100')).json()) as { jobs: Job[] }).jobs
  const card = (id: string): Locator => opened.page.locator(`[data-job="${id}"]`)
  const dialog = (): Locator => opened.page.getByRole('dialog')
  const openGallery = async (options: Parameters<typeof openPage>[2] = {}): Promise<void> => {
    opened = await openPage(browser, api.url, { reducedMotion: 'reduce', ...options })
    await opened.page.locator('.card').first().waitFor()
  }

  /** Makes a job that has succeeded. */
  async function make(body: Record<string, unknown>): Promise<string> {
    const { id } = await api.submit(body)
    await api.worker.succeed(id)
    return id
  }
  async function makeEveryKind(): Promise<void> {
    await make({ prompt: longPrompt, num_images_per_prompt: 3 })
    await make({ prompt: 'ten at once', num_images_per_prompt: 10 })
    const canceled = await api.submit({ prompt: 'not wanted' })
    await api.post(`/v1/jobs/${canceled.id}/cancel`)
    const failed = await api.submit({ prompt: 'went wrong' })
    await api.worker.store.start(failed.id, 'w1')
    const error = { code: 'engine_crashed', message: 'The engine crashed three times on this job.', retryable: false } as const
    await api.worker.store.end(failed.id, { status: 'failed', error })
    await api.submit({ prompt: 'waits', num_images_per_prompt: 4 })
  }

  test('is not wider than any window from 320 to 1400 pixels, and all cards of a row have one height', async () => {
    await makeEveryKind()
    await openGallery()
    for (const width of [320, 375, 640, 861, 900, 1036, 1400]) {
      await opened.page.setViewportSize({ width, height: 800 })
      const { over, rows } = await opened.page.evaluate(() => {
        const { scrollWidth, clientWidth } = document.documentElement
        const boxes = [...document.querySelectorAll('.card')].map((element) => element.getBoundingClientRect())
        const heights = Map.groupBy(boxes, ({ top }) => Math.round(top))
        return {
          over: scrollWidth - clientWidth,
          rows: [...heights.values()].map((row) => new Set(row.map(({ height }) => Math.round(height))).size),
        }
      })
      expect([width, over, rows.every((kinds) => kinds === 1)]).toEqual([width, 0, true])
    }
    expect(await findHindrances(opened.page)).toEqual([])
  })

  test('opens a picture large; arrow keys lead to its neighbours and Escape back, and a favourite is kept in the browser', async () => {
    const first = await make({ prompt: 'the older', seed: 5 })
    await make({ prompt: 'the newer', seed: 9, num_images_per_prompt: 2 })
    await openGallery()
    await opened.page.getByRole('button', { name: 'Open: the newer (2)' }).click()
    await dialog().getByText('10', { exact: true }).waitFor()
    expect(await findHindrances(opened.page)).toEqual([])
    await opened.page.keyboard.press('ArrowRight')
    await dialog().getByRole('heading', { name: 'the older' }).waitFor()
    await opened.page.keyboard.press('ArrowRight')
    await dialog().getByRole('button', { name: '☆ Favourite' }).click()
    await opened.page.keyboard.press('ArrowLeft')
    await dialog().getByRole('heading', { name: 'the newer' }).waitFor()
    await opened.page.keyboard.press('Escape')
    await dialog().waitFor({ state: 'hidden' })
    await opened.page.reload()
    await opened.page.getByRole('button', { name: '★ Favourites' }).click()
    await expect.poll(async () => await opened.page.locator('.card').count()).toBe(1)
    expect(await card(first).count()).toBe(1)
  })

  test('loads thumbnails as they come into view, and a picture itself when it is opened', async () => {
    const old = await api.submit({ prompt: 'of before' })
    await api.worker.store.start(old.id, 'w1')
    const stored = { key: `images/${old.id}-0.png`, width: 128, height: 128, seed: 1, sha256: '0'.repeat(64), content_type: 'image/png' }
    await api.deps.storage.put(stored.key, Buffer.from('a picture'), { contentType: 'image/png' })
    await api.worker.store.end(old.id, { status: 'succeeded', output: { images: [stored] } })
    const id = await make({ prompt: 'new', num_images_per_prompt: 2 })
    await openGallery()
    const [small, large] = [`images/${id}-1.thumb.webp`, `images/${id}-1.png`]
    const tiles = opened.page.locator('button.tile img:not(.backdrop)')
    const sources = async (): Promise<unknown> => await tiles.evaluateAll((images) => images.map((image) => image.getAttribute('src')))
    // The older job has no thumbnail.
    await expect.poll(sources).toEqual([`images/${id}-0.thumb.webp`, small, stored.key])
    expect(await tiles.first().getAttribute('loading')).toBe('lazy')
    // Whole, though two squares do not fill the square that they share.
    expect(await tiles.first().evaluate((image) => getComputedStyle(image).objectFit)).toBe('contain')
    const loaded = async (): Promise<string[]> =>
      await opened.page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name.slice(name.indexOf('images/'))))
    await expect.poll(loaded).toContain(small)
    expect(await loaded()).not.toContain(large)
    await opened.page.getByRole('button', { name: 'Open: new (2)' }).click()
    await expect.poll(loaded).toContain(large)
    expect(await dialog().getByRole('link', { name: 'Download' }).getAttribute('href')).toBe(large)
    expect(opened.complaints).toEqual([])
  })

  test('turns to the next picture and the one before by a swipe, but not by a short or upright one', async () => {
    await make({ prompt: 'the older' })
    await make({ prompt: 'the newer' })
    await openGallery({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true })
    await opened.page.getByRole('button', { name: 'Open: the newer' }).tap()
    const title = dialog().getByRole('heading')
    const { x, y, width, height } = (await opened.page.locator('.stage').boundingBox())!
    const finger = await opened.context.newCDPSession(opened.page)
    const swipe = async (right: number, down = 0): Promise<void> => {
      const at = (part: number) => [{ x: x + width / 2 + right * part, y: y + height / 2 + down * part }]
      await finger.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: at(0) })
      for (const part of [0.25, 0.5, 0.75, 1]) await finger.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: at(part) })
      await finger.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
    }
    expect(await title.textContent()).toBe('the newer')
    await swipe(-30)
    await swipe(-20, 120)
    await untilDrawn(opened.page)
    expect(await title.textContent()).toBe('the newer')
    await swipe(-120)
    await expect.poll(async () => await title.textContent()).toBe('the older')
    // There is none after it.
    await swipe(-120)
    await untilDrawn(opened.page)
    expect(await title.textContent()).toBe('the older')
    await swipe(120)
    await expect.poll(async () => await title.textContent()).toBe('the newer')
    expect(await findHindrances(opened.page)).toEqual([])
  })

  test.each([320, 900])('shows the whole sentence about an expired job at %d pixels', async (width) => {
    const { id } = await api.submit({ prompt: 'too late' })
    const { message } = jobErrorTable.expired
    const error = { code: 'expired', message: `${message} No worker serves tiny-scenes now.`, retryable: true } as const
    await api.worker.store.start(id, 'w1')
    await api.worker.store.end(id, { status: 'failed', error })
    await openGallery({ viewport: { width, height: 800 } })
    const told = card(id).getByText(error.message, { exact: true })
    await told.waitFor()
    const [text, square, actions] = await Promise.all(
      [told, card(id).locator('.square'), card(id).locator('.square .actions')].map(async (each) => await each.boundingBox()),
    )
    if (!text || !square || !actions) throw new Error('Expected text, square and buttons to be shown')
    expect(await told.evaluate((element) => element.scrollHeight <= element.clientHeight + 1)).toBe(true)
    expect(text.y).toBeGreaterThanOrEqual(square.y)
    expect(text.y + text.height).toBeLessThanOrEqual(actions.y)
    expect(actions.y + actions.height).toBeLessThanOrEqual(square.y + square.height)
  })

  test('lets a job that ended badly be tried again or dismissed, and deletes what is selected at the second press', async () => {
    await makeEveryKind()
    await openGallery()
    await opened.page.getByRole('button', { name: 'Dismiss: not wanted' }).click()
    await opened.page.locator('.card', { hasText: 'not wanted' }).waitFor({ state: 'detached' })
    await opened.page.getByRole('button', { name: 'Retry: went wrong' }).click()
    await opened.page.locator('.card[data-status=queued]', { hasText: 'went wrong' }).waitFor()
    await opened.page.locator('.card[data-status=failed]').waitFor({ state: 'detached' })
    await opened.page.getByRole('button', { name: 'Select', exact: true }).click()
    await opened.page.getByLabel('Select: ten at once').check()
    await opened.page.getByRole('button', { name: 'Delete 1 selected' }).click()
    expect(await opened.page.locator('.card', { hasText: 'ten at once' }).count()).toBe(1)
    await opened.page.getByRole('button', { name: 'Delete 1 for good?' }).click()
    await opened.page.locator('.card', { hasText: 'ten at once' }).waitFor({ state: 'detached' })
    const prompts = (await listed()).map(({ input }) => input.prompt)
    expect(prompts.toSorted()).toEqual([longPrompt, 'waits', 'went wrong'].toSorted())
  })

  test('asks for the whole job once more by “Same again”, including what the form has no field for', async () => {
    const body = {
      prompt: 'all of it',
      negative_prompt: 'a box',
      seed: 3,
      num_inference_steps: 9,
      guidance_scale: 2,
      width: 96,
      height: 160,
    }
    const id = await make({ ...body, num_images_per_prompt: 2, clip_skip: 1, output_format: 'webp', skip_guidance_layers: [2, 3] })
    await openGallery()
    await opened.page.getByRole('button', { name: 'Open: all of it (1)' }).click()
    await dialog().getByRole('button', { name: 'Same again' }).click()
    await opened.page.getByRole('button', { name: 'Make pictures' }).click()
    await expect.poll(async () => (await listed()).length).toBe(2)
    const [again, before] = await listed()
    expect(before?.id).toBe(id)
    expect(again?.input).toEqual(before?.input)
  })

  test('shows older pictures at the press of a button', async () => {
    const ids: string[] = []
    for (let n = 0; n < 45; n++) ids.push((await api.submit({ prompt: `number ${n}` })).id)
    for (const id of ids) await api.post(`/v1/jobs/${id}/cancel`)
    await openGallery()
    await expect.poll(async () => await opened.page.locator('.card').count()).toBe(40)
    await opened.page.getByRole('button', { name: 'Show older pictures' }).click()
    await expect.poll(async () => await opened.page.locator('.card').count()).toBe(45)
    expect(await opened.page.getByRole('button', { name: 'Show older pictures' }).count()).toBe(0)
  })

  test('offers examples of the model beside it, and sizes by their shape', async () => {
    await make({ prompt: 'something' })
    await openGallery()
    const { page } = opened
    await page.getByRole('button', { name: 'a big green cat at night' }).click()
    expect(await page.getByLabel('Prompt').first().inputValue()).toBe('a big green cat at night')
    await page.getByText('Landscape').click()
    const [request] = await Promise.all([
      page.waitForRequest((asked) => asked.method() === 'POST'),
      page.getByRole('button', { name: 'Make a picture' }).click(),
    ])
    expect(request.postDataJSON()).toMatchObject({ prompt: 'a big green cat at night', width: 160, height: 112 })
    expect(await page.getByLabel('Steps').isVisible()).toBe(false)
  })
})
