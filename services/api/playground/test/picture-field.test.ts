/** Pictures to begin with: given in every way, masked by mouse, finger and keyboard, and compared with what became of them. The worker is real. */
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Job } from '@easel/contract'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { startEasel, type Easel } from '../../../../scripts/start-easel.ts'
import { startTestApi } from '../../test/start-api.ts'
import { findHindrances, openPage, untilDrawn } from './open-page.ts'

const executable = findChromium()

describe.skipIf(executable === undefined)('a picture to begin with', () => {
  let easel: Easel
  let browser: Browser
  let context: BrowserContext
  let page: Page
  let complaints: string[]
  let png: Buffer

  beforeAll(async () => {
    ensurePlayground()
    easel = await startEasel()
    browser = await launchChromium(executable ?? '')
    png = await sharp({ create: { width: 128, height: 128, channels: 3, background: '#3060c0' } })
      .png()
      .toBuffer()
  })
  afterAll(async () => {
    await browser.close()
    await easel.stop()
  })
  afterEach(async () => await context.close())

  async function open(options: Parameters<typeof openPage>[2] = {}, url = easel.url): Promise<void> {
    ;({ context, page, complaints } = await openPage(browser, url, options))
  }

  const chosen = (): Locator => page.getByAltText('The picture to begin with')
  const canvas = (): Locator => page.getByRole('application', { name: /^Mask/ })
  const card = (prompt: string): Locator => page.locator('.card', { has: page.getByRole('heading', { name: prompt, exact: true }) })

  async function choose(): Promise<void> {
    await page.getByLabel('Choose, drop or paste a picture').setInputFiles({ name: 'blue.png', mimeType: 'image/png', buffer: png })
    await loaded(chosen())
  }

  async function loaded(picture: Locator): Promise<void> {
    await expect.poll(async () => await picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0)
  }

  async function openPainter(): Promise<void> {
    await page.getByRole('button', { name: 'Paint a mask' }).click()
    await expect.poll(async () => await canvas().evaluate((element: HTMLCanvasElement) => element.width)).toBe(128)
  }

  /** Submits the form; returns the job when its picture is shown. */
  async function make(prompt: string): Promise<Job> {
    await page.getByLabel('Prompt').first().fill(prompt)
    await page.getByRole('button', { name: /^Make/ }).click()
    await card(prompt).locator('button.tile img').first().waitFor()
    const id = await card(prompt).first().getAttribute('data-job')
    return (await (await fetch(`${easel.url}/v1/jobs/${id}`)).json()) as Job
  }

  /** The share of the mask that is painted. */
  async function painted(): Promise<number> {
    // Strokes are drawn with the next frame.
    await untilDrawn(page)
    return await canvas().evaluate((element: HTMLCanvasElement) => {
      const { data } = element.getContext('2d')!.getImageData(0, 0, element.width, element.height)
      return data.filter((value, index) => index % 4 === 3 && value > 127).length / (data.length / 4)
    })
  }

  /** Gives the picture to the page as pasting or dropping it would. */
  async function give(kind: 'paste' | 'drop'): Promise<void> {
    await page.evaluate(
      ([type, bytes]) => {
        const data = new DataTransfer()
        data.items.add(new File([Uint8Array.from(bytes)], 'blue.png', { type: 'image/png' }))
        const options = { bubbles: true, cancelable: true }
        document.body.dispatchEvent(
          type === 'paste'
            ? new ClipboardEvent(type, { ...options, clipboardData: data })
            : new DragEvent(type, { ...options, dataTransfer: data }),
        )
      },
      [kind, [...png]] as const,
    )
  }

  test('is changed with the strength that is set, where the mask that was painted with the mouse says', async () => {
    await open({ reducedMotion: 'reduce' })
    await choose()
    await page.getByLabel('Strength').fill('0.8')
    await openPainter()
    const box = (await canvas().boundingBox())!
    await page.mouse.move(box.x + box.width * 0.25, box.y + box.height * 0.25)
    await page.mouse.down()
    await page.mouse.move(box.x + box.width * 0.25, box.y + box.height * 0.75, { steps: 5 })
    await page.mouse.up()

    const mask = page.waitForResponse((response) => response.url().endsWith('/v1/uploads'))
    const { input } = await make('a yellow star at night')
    expect(input).toMatchObject({ strength: 0.8, width: 128, height: 128, image: { width: 128 }, mask: { width: 128, height: 128 } })
    const { id } = (await (await mask).json()) as { id: string }
    const sent = sharp(await (await fetch(`${easel.url}/v1/uploads/${id}`)).arrayBuffer()).extractChannel(0)
    const pixels = await sent.raw().toBuffer()
    expect([pixels[64 * 128 + 32], pixels[64 * 128 + 96], pixels[4 * 128 + 32]]).toEqual([255, 0, 0])
    expect(complaints).toEqual([])
  })

  test.each(['paste', 'drop'] as const)('is accepted by %s, is still there after a reload, and can be removed', async (kind) => {
    await open()
    await page.getByLabel('Choose, drop or paste a picture').waitFor({ state: 'attached' })
    // The page begins to listen once it has drawn the field.
    await untilDrawn(page)
    await give(kind)
    await loaded(chosen())
    await page.reload()
    await loaded(chosen())
    await page.getByRole('button', { name: 'Remove picture' }).click()
    await expect.poll(async () => await chosen().count()).toBe(0)
    const { input } = await make(`a red ball after a ${kind}`)
    expect([input.image, input.strength]).toEqual([undefined, undefined])
  })

  test('may be a finished one, which the picture made from it shows while a button is held', async () => {
    await open()
    await make('a red boat on the sea')
    await page.getByRole('button', { name: 'Use as input: a red boat on the sea' }).click()
    await loaded(chosen())
    const { input } = await make('a blue boat on the sea')
    expect(input).toMatchObject({ strength: 0.6, image: { width: 128, height: 128 } })

    await page.reload()
    await page.getByRole('button', { name: 'Open: a blue boat on the sea' }).click()
    const before = page.getByAltText('Before', { exact: true })
    const hold = page.getByRole('button', { name: 'Hold: before' })
    expect(await before.isVisible()).toBe(false)
    await hold.hover()
    await page.mouse.down()
    await before.waitFor()
    await loaded(before)
    expect(await findHindrances(page)).toEqual([])
    await page.mouse.up()
    await before.waitFor({ state: 'hidden' })
    await hold.focus()
    await page.keyboard.down('Space')
    await before.waitFor()
    await page.keyboard.up('Space')
    await before.waitFor({ state: 'hidden' })

    const large = page.getByRole('dialog')
    await large.getByRole('button', { name: 'Copy as curl' }).click()
    await expect.poll(async () => await page.evaluate(async () => await navigator.clipboard.readText())).toContain('"image": "job:')
    await large.getByRole('button', { name: 'Same again' }).click()
    await loaded(chosen())
    expect((await make('a blue boat on the sea, once more')).input.image).toEqual(input.image)
    expect(complaints).toEqual([])
  })

  test('can have its mask painted, erased, inverted and undone with the keyboard alone', async () => {
    await open()
    await choose()
    await openPainter()
    await canvas().focus()
    await page.keyboard.press('Space')
    for (let n = 0; n < 4; n++) await page.keyboard.press('ArrowRight')
    await page.keyboard.press('Space')
    await page.keyboard.press('Tab')
    await expect.poll(painted).toBeGreaterThan(0.02)
    const stroke = await painted()
    expect(stroke).toBeLessThan(0.1)
    await canvas().focus()
    await page.keyboard.press('i')
    await expect.poll(painted).toBeCloseTo(1 - stroke, 1)
    await page.keyboard.press('u')
    await expect.poll(painted).toBe(stroke)
    await page.getByRole('button', { name: 'Erase' }).click()
    await page.getByLabel('Brush size').fill('40')
    await canvas().focus()
    await page.keyboard.press('Space')
    await page.keyboard.press('Space')
    await page.keyboard.press('Tab')
    await expect.poll(painted).toBeLessThan(stroke / 2)
    await page.getByRole('button', { name: 'Undo' }).click()
    await expect.poll(painted).toBe(stroke)
    await page.getByRole('button', { name: 'Clear' }).click()
    await expect.poll(painted).toBe(0)
  })

  test.each([
    { name: 'light', options: { colorScheme: 'light', viewport: { width: 1280, height: 800 } } },
    { name: 'dark', options: { colorScheme: 'dark', viewport: { width: 1280, height: 800 } } },
    { name: 'phone', options: { colorScheme: 'light', viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } },
  ] as const)('can have its mask painted with a finger, and axe finds nothing to complain about ($name)', async ({ options }) => {
    await open({ hasTouch: true, reducedMotion: 'reduce', ...options })
    await page.getByLabel('Choose, drop or paste a picture').waitFor({ state: 'attached' })
    expect(await findHindrances(page)).toEqual([])
    await choose()
    expect(await findHindrances(page)).toEqual([])
    await openPainter()
    await canvas().scrollIntoViewIfNeeded()
    const { x, y, width } = (await canvas().boundingBox())!
    const scrolled = await page.evaluate(() => scrollY)
    const finger = await context.newCDPSession(page)
    const touch = async (type: 'touchStart' | 'touchMove', at: number): Promise<unknown> =>
      await finger.send('Input.dispatchTouchEvent', { type, touchPoints: [{ x: x + width / 2, y: y + width * at }] })
    await touch('touchStart', 0.3)
    for (const at of [0.4, 0.5, 0.6]) await touch('touchMove', at)
    await finger.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] })
    await expect.poll(painted).toBeGreaterThan(0.04)
    expect(await page.evaluate(() => scrollY)).toBe(scrolled)
    expect(await findHindrances(page)).toEqual([])
    expect(complaints).toEqual([])
  })

  test('is refused in words when it is something else, and is not offered for a model without a VAE encoder', async () => {
    await open()
    const text = { name: 'no.png', mimeType: 'image/png', buffer: Buffer.from('<html>no picture</html>') }
    await page.getByLabel('Choose, drop or paste a picture').setInputFiles(text)
    await page.getByRole('alert').waitFor()
    expect(await chosen().count()).toBe(0)
    await context.close()

    const api = await startTestApi()
    try {
      await open({}, api.url)
      await page.getByRole('group', { name: 'Size' }).waitFor()
      await page.getByLabel('Model').waitFor()
      expect(await page.getByText('Begin with a picture').count()).toBe(0)
    } finally {
      await api.close()
    }
  })
})
