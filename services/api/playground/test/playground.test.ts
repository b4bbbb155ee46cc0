import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { type Easel, startEasel, untilPreviewsCome } from '../../../../scripts/start-easel.ts'
import { findHindrances, openPage } from './open-page.ts'

const executable = findChromium()
if (executable === undefined) {
  process.stderr.write('SKIPPED: the tests of the playground need a Chromium (apt-get install chromium, or CHROMIUM=/path/to/it).\n')
}

describe.skipIf(executable === undefined)('the playground in a browser', () => {
  let easel: Easel
  let browser: Browser
  let context: BrowserContext
  let page: Page
  let complaints: string[]

  beforeAll(async () => {
    ensurePlayground()
    easel = await startEasel()
    await untilPreviewsCome(easel.url)
    browser = await launchChromium(executable ?? '')
  })
  afterAll(async () => {
    await browser.close()
    await easel.stop()
  })
  afterEach(async () => await context.close())

  async function open(url = easel.url, options: Parameters<typeof openPage>[2] = {}): Promise<void> {
    ;({ context, page, complaints } = await openPage(browser, url, options))
  }

  async function unfold(): Promise<void> {
    const folded = page.locator('.advanced:not([open]) > summary')
    if ((await folded.count()) > 0) await folded.click()
    await page.getByText('Custom').click()
  }

  async function fill(fields: Record<string, string>): Promise<void> {
    await unfold()
    for (const [label, text] of Object.entries(fields)) await page.getByLabel(label).first().fill(text)
  }

  /** Fields of a job that takes minutes on a CPU, to be canceled. */
  const endless = { Steps: '200', Width: '256', Height: '256', Pictures: '4' }
  const make = async (): Promise<void> => await page.getByRole('button', { name: /^Make/ }).click()
  const card = (prompt: string) => page.locator('.card', { has: page.getByRole('heading', { name: prompt, exact: true }) })

  async function makePicture(prompt: string, seed: string): Promise<void> {
    await unfold()
    await page.getByLabel('Fixed', { exact: true }).check()
    await fill({ Prompt: prompt, Steps: '4', 'Fixed seed': seed })
    await make()
    await card(prompt).locator('button.tile img').first().waitFor()
  }

  test('a job that was submitted shows previews and then its picture, and no request goes to another server', async () => {
    await open()
    await page.getByRole('group', { name: 'Examples' }).getByRole('button', { name: 'a red boat on the sea' }).waitFor()
    await fill({ Prompt: 'a red boat on the sea', Steps: '80' })
    await make()
    const boat = card('a red boat on the sea')
    const preview = boat.getByAltText('Preview of picture 1: a red boat on the sea')
    await preview.waitFor()
    const first = await preview.getAttribute('src')
    await expect.poll(async () => (await preview.getAttribute('src', { timeout: 500 }).catch(() => 'gone')) !== first).toBe(true)
    expect(first).toMatch(/^data:image\/jpeg;base64,/)

    const picture = boat.locator('button.tile img')
    await picture.waitFor()
    await expect.poll(async () => await picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(128)
    await expect.poll(async () => await page.getByRole('status').textContent()).toBe('Ready: a red boat on the sea')
    expect(complaints).toEqual([])
  })

  test('of two jobs at once, one is canceled and the other gets its picture; both are there after a reload', async () => {
    await open()
    await fill({ Prompt: 'a big green cat at night', ...endless })
    await make()
    await card('a big green cat at night').waitFor()
    await fill({ Prompt: 'a yellow sun above a blue house', Steps: '20', Width: '128', Height: '128', Pictures: '1' })
    await make()
    await card('a yellow sun above a blue house').waitFor()
    await page.getByRole('button', { name: 'Cancel: a big green cat at night' }).click()
    await card('a big green cat at night').getByText('Canceled', { exact: true }).waitFor()
    await card('a yellow sun above a blue house').locator('button.tile img').waitFor()

    await page.reload()
    await card('a yellow sun above a blue house').locator('button.tile img').waitFor()
    await card('a big green cat at night').getByText('Canceled', { exact: true }).waitFor()
    expect(await page.getByLabel('Prompt').first().inputValue()).toBe('a yellow sun above a blue house')
    expect(complaints).toEqual([])
  })

  test('a job is still followed after a reload, to its end', async () => {
    await open()
    await fill({ Prompt: 'a white rocket in the sky', ...endless })
    await make()
    const rocket = card('a white rocket in the sky')
    await rocket.getByRole('progressbar').waitFor()
    await page.reload()
    const step = async (): Promise<number> => await rocket.getByRole('progressbar').evaluate((bar: HTMLProgressElement) => bar.value)
    const shown = await step()
    await expect.poll(step).toBeGreaterThan(shown)
    // Canceled by another client, so that the page learns of the end only by following the job.
    const id = await rocket.getAttribute('data-job')
    expect((await fetch(`${easel.url}/v1/jobs/${id}/cancel`, { method: 'POST' })).status).toBe(202)
    await rocket.getByText('Canceled', { exact: true }).waitFor()
  })

  test('what the api refuses is said at its field, which gets the focus', async () => {
    await open()
    await fill({ Prompt: 'a ball', Width: '100' })
    await make()
    const width = page.getByLabel('Width')
    await expect.poll(async () => await width.getAttribute('aria-invalid')).toBe('true')
    const described = await width.getAttribute('aria-describedby')
    expect(await page.locator(`#${described}`).textContent()).toBe('Expected a multiple of 16, at most 256.')
    await expect.poll(async () => await width.evaluate((element) => element === document.activeElement)).toBe(true)
    await width.fill('128')
    await expect.poll(async () => await width.getAttribute('aria-invalid')).toBe('false')

    await fill({ Prompt: ' ' })
    await make()
    await expect.poll(async () => await page.getByLabel('Prompt').first().getAttribute('aria-invalid')).toBe('true')
  })

  test('a picture can be copied as curl and TypeScript, downloaded, and varied with the next seed', async () => {
    await open()
    await makePicture('a pink balloon on a meadow', '41')
    await page.getByRole('button', { name: 'Open: a pink balloon on a meadow' }).first().click()
    const large = page.getByRole('dialog')
    const copied = async (): Promise<string> => await page.evaluate(async () => await navigator.clipboard.readText())
    for (const [name, expected] of [
      ['Copy as curl', `curl -s '${easel.url}/v1/jobs'`],
      ['Copy as curl', '"seed": 41'],
      ['Copy as TypeScript', 'seed: 41'],
      ['Copy link', `${easel.url}/images/`],
    ] as const) {
      await large.getByRole('button', { name }).click()
      await expect.poll(copied).toContain(expected)
      await large.getByRole('button', { name }).waitFor()
    }
    await large.getByRole('button', { name: 'Copy as TypeScript' }).click()
    await expect.poll(copied).toContain('seed: 41')
    const code = await copied()
    const [download] = await Promise.all([page.waitForEvent('download'), large.getByRole('link', { name: 'Download' }).click()])
    const picture = await readFile(await download.path())
    expect(picture.subarray(1, 4).toString()).toBe('PNG')
    expect((await runProgram(code, 'picture.png')).equals(picture)).toBe(true)

    await large.getByRole('button', { name: 'Variation' }).click()
    await expect.poll(async () => await card('a pink balloon on a meadow').count()).toBe(2)
    await large.waitFor({ state: 'hidden' })
    await page.getByRole('button', { name: 'Open: a pink balloon on a meadow' }).nth(1).waitFor()
    await page.getByRole('button', { name: 'Open: a pink balloon on a meadow' }).first().click()
    await large.getByText('42', { exact: true }).waitFor()
    expect(complaints).toEqual([])
  })

  test('with the keyboard alone a picture is made', async () => {
    await open()
    await page.getByLabel('Prompt').first().focus()
    await page.keyboard.type('a black star')
    await page.keyboard.press('Control+Enter')
    await expect.poll(async () => await card('a black star').locator('button.tile img').count(), { timeout: 60_000 }).toBe(1)
  })

  test.each([
    { name: 'light', options: { colorScheme: 'light', viewport: { width: 1280, height: 800 } } },
    { name: 'dark', options: { colorScheme: 'dark', viewport: { width: 1280, height: 800 } } },
    { name: 'phone', options: { colorScheme: 'light', viewport: { width: 360, height: 740 } } },
  ] as const)('axe finds nothing to complain about ($name)', async ({ options }) => {
    await open(easel.url, { ...options, reducedMotion: 'reduce' })
    await makePicture('a green tree', '1')
    await fill({ Width: '100' })
    await make()
    await page.locator('#width-error').waitFor()
    expect(await findHindrances(page)).toEqual([])
    await page.getByRole('button', { name: 'Select', exact: true }).click()
    expect(await findHindrances(page)).toEqual([])
    await page.getByRole('button', { name: 'Done' }).click()
    await page.getByRole('button', { name: 'Open: a green tree' }).first().click()
    expect(await findHindrances(page)).toEqual([])
    // The picture fills its part of the view and nothing else, whatever their shapes.
    const box = async (part: string) => await page.locator(part).boundingBox()
    expect(await box('.stage img')).toEqual(await box('.stage'))
  })

  test('asks for an API key when the api does, and stores it in the browser only on request', async () => {
    const keyed = await startEasel({ env: { API_KEYS: 'me:correct-horse' } })
    const field = () => page.getByLabel('API key')
    const give = async (key: string): Promise<void> => {
      await field().fill(key)
      await page.getByRole('button', { name: 'Use this key' }).click()
    }
    /** Whether the browser has stored it, for every tab. */
    const kept = async (): Promise<boolean> =>
      await page.evaluate(() => JSON.stringify(Object.entries(localStorage)).includes('correct-horse'))
    const openTab = async (): Promise<void> => {
      await page.close()
      page = await context.newPage()
      await page.goto(keyed.url)
    }
    try {
      await open(keyed.url)
      await field().waitFor()
      await page.getByText('The pictures are shown once you have given an API key.').waitFor()
      expect(await findHindrances(page)).toEqual([])
      await give('wrong-key-1')
      await page.getByText('The server does not know this key.').waitFor()
      expect(await findHindrances(page)).toEqual([])
      await give('correct-horse')
      await makePicture('a red ball', '3')
      expect(await field().count()).toBe(0)

      // After a reload it is the same tab; another tab has to be given the key.
      await page.reload()
      await card('a red ball').waitFor()
      expect(await kept()).toBe(false)
      await openTab()
      await page.getByLabel('Keep it in this browser').check()
      await give('correct-horse')
      await card('a red ball').waitFor()
      expect(await kept()).toBe(true)
      await openTab()
      await card('a red ball').waitFor()
      expect(await field().count()).toBe(0)
    } finally {
      await keyed.stop()
    }
  })

  test('the api reference draws itself from this server alone', async () => {
    await open(easel.url)
    await page.goto(`${easel.url}/docs`)
    await page.getByText('Submit a job').first().waitFor()
    expect(complaints).toEqual([])
  })

  test('the page and what it loads stay under 150 kB', async () => {
    await open('about:blank')
    const sizes: Promise<number>[] = []
    page.on('response', (response) => {
      const url = response.url()
      if (!url.includes('/images/'))
        sizes.push(
          response
            .request()
            .sizes()
            .then((size) => size.responseBodySize),
        )
    })
    await page.goto(easel.url, { waitUntil: 'networkidle' })
    const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
    expect(bytes).toBeGreaterThan(10_000)
    expect(bytes).toBeLessThan(150_000)
  })
})

/** Runs a program as a reader would who has installed what it imports, and returns a file that the program has written. */
async function runProgram(code: string, file: string): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-program-'))
  try {
    await symlink(resolve(import.meta.dirname, '../node_modules'), join(folder, 'node_modules'))
    await writeFile(join(folder, 'program.ts'), code)
    await promisify(execFile)(process.execPath, ['program.ts'], { cwd: folder })
    return await readFile(join(folder, file))
  } finally {
    await rm(folder, { recursive: true })
  }
}
