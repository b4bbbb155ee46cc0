/** LoRAs chosen on the page, with a real worker that has two of them. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser, Locator } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Job, JobList } from '@easel/contract'
import { ensurePlayground } from '../../../../packages/cli/src/setup/ensure-playground.ts'
import { findChromium, launchChromium } from '../../../../scripts/find-chromium.ts'
import { startEasel, type Easel } from '../../../../scripts/start-easel.ts'
import { startTestApi, tinyScenes } from '../../test/start-api.ts'
import { findHindrances, openPage, type OpenedPage } from './open-page.ts'

const executable = findChromium()
const shipped = fileURLToPath(new URL('../../../../packages/pipeline/test/loras', import.meta.url))

describe.skipIf(executable === undefined)('LoRAs in the playground', () => {
  let easel: Easel
  let browser: Browser
  let opened: OpenedPage
  let lorasDir: string

  beforeAll(async () => {
    ensurePlayground()
    lorasDir = await mkdtemp(join(tmpdir(), 'easel-loras-'))
    await cp(shipped, lorasDir, { recursive: true })
    easel = await startEasel({ env: { LORAS_DIR: lorasDir } })
    browser = await launchChromium(executable ?? '')
  })
  afterAll(async () => {
    await browser.close()
    await easel.stop()
    await rm(lorasDir, { recursive: true })
  })
  afterEach(async () => await opened.context.close())

  async function open(url = easel.url, options: Parameters<typeof openPage>[2] = {}): Promise<void> {
    opened = await openPage(browser, url, { reducedMotion: 'reduce', ...options })
    await opened.page.getByText('Advanced settings').click()
  }
  const group = (): Locator => opened.page.getByRole('group', { name: 'LoRAs' })
  const add = (): Locator => group().getByRole('button', { name: 'Add a LoRA' })
  const newest = async (): Promise<Job | undefined> => ((await (await fetch(`${easel.url}/v1/jobs?limit=1`)).json()) as JobList).jobs[0]

  /** Submits the form; returns the job when its picture is shown. */
  async function make(prompt: string): Promise<Job> {
    await opened.page.getByLabel('Prompt').first().fill(prompt)
    await opened.page.getByLabel('Steps').fill('4')
    await opened.page.getByRole('button', { name: 'Make a picture' }).click()
    await opened.page
      .getByRole('button', { name: `Open: ${prompt}` })
      .first()
      .waitFor()
    const job = await newest()
    if (job?.input.prompt !== prompt) throw new Error(`Expected the job of ${prompt}, got ${job?.input.prompt}`)
    return job
  }

  test('change the picture, with their scales, when they are chosen, and “Same again” chooses them once more', async () => {
    await open()
    await add().click()
    await group().getByLabel('LoRA 1').selectOption('wobble')
    await group().getByLabel('Scale of wobble').fill('-1.5')
    await add().click()
    expect(await group().getByLabel('LoRA 2').inputValue()).toBe('tint')
    // There are no others.
    expect(await add().count()).toBe(0)
    expect(await findHindrances(opened.page)).toEqual([])
    const changed = await make('a blue house')
    expect(changed.input.loras).toEqual([
      { id: 'wobble', scale: -1.5 },
      { id: 'tint', scale: 1 },
    ])
    expect(changed.receipt?.loras?.map(({ id }) => id)).toEqual(['wobble', 'tint'])

    // What was chosen is still there after a reload.
    await opened.page.reload()
    await group().getByRole('button', { name: 'Remove wobble' }).click()
    await group().getByRole('button', { name: 'Remove tint' }).click()
    const plain = await make('a blue house, plain')
    expect([plain.input.loras, plain.receipt?.loras]).toEqual([undefined, undefined])

    await opened.page.getByRole('button', { name: 'Open: a blue house', exact: true }).click()
    await opened.page.getByRole('dialog').getByRole('button', { name: 'Same again' }).click()
    expect(await group().getByLabel('Scale of wobble').inputValue()).toBe('-1.5')
    await opened.page.getByRole('button', { name: 'Make a picture' }).click()
    await expect.poll(async () => (await newest())?.input).toEqual(changed.input)
    await expect.poll(async () => (await newest())?.output?.images[0]?.sha256, { timeout: 60_000 }).toBe(changed.output?.images[0]?.sha256)
    expect(opened.complaints).toEqual([])
  })

  test.each([
    { name: 'light', options: { colorScheme: 'light' } },
    { name: 'dark, phone', options: { colorScheme: 'dark', viewport: { width: 360, height: 740 } } },
  ] as const)(
    'show what the api objects to in a scale or a LoRA where it was chosen, and axe finds nothing to complain about ($name)',
    async ({ options }) => {
      await open(easel.url, options)
      await opened.page.getByLabel('Prompt').first().fill('a boat')
      await add().click()
      const scale = group().getByLabel('Scale of tint')
      await scale.fill('9')
      await opened.page.getByRole('button', { name: 'Make a picture' }).click()
      await expect.poll(async () => await scale.getAttribute('aria-invalid')).toBe('true')
      const problem = opened.page.locator(`[id="${await scale.getAttribute('aria-describedby')}"]`)
      expect(await problem.textContent()).toMatch(/^Expected .*4/)
      await expect.poll(async () => await scale.evaluate((element) => element === document.activeElement)).toBe(true)
      expect(await opened.page.locator('form > [role=alert]').count()).toBe(0)
      expect(await findHindrances(opened.page)).toEqual([])
      await scale.fill('4')
      await problem.waitFor({ state: 'detached' })

      // A LoRA that still existed when it was chosen.
      await opened.page.evaluate(() => {
        const settings = JSON.parse(localStorage.getItem('easel.settings') ?? '{}') as Record<string, unknown>
        localStorage.setItem('easel.settings', JSON.stringify({ ...settings, loras: [{ id: 'gone', scale: '' }] }))
      })
      await opened.page.reload()
      await group().getByText('gone (not available)').waitFor({ state: 'attached' })
      await opened.page.getByRole('button', { name: 'Make a picture' }).click()
      await group().getByText('Expected among tint, wobble.').waitFor()
      expect(await findHindrances(opened.page)).toEqual([])
    },
  )

  test('are at most four, each chosen once; a model without any shows no such field', async () => {
    const loras = ['a', 'b', 'c', 'd', 'e']
    const api = await startTestApi({ model: { ...tinyScenes, loras } })
    try {
      await open(api.url)
      for (let n = 0; n < 4; n++) await add().click()
      expect(await add().count()).toBe(0)
      const options = await group().getByLabel('LoRA 4').getByRole('option').allTextContents()
      expect(options).toEqual(['d', 'e'])
      // However long the form is, its button is in the window.
      const { y, height } = (await opened.page.getByRole('button', { name: 'Make a picture' }).boundingBox())!
      expect(y + height).toBeLessThan(opened.page.viewportSize()?.height ?? 0)
      await api.worker.registry.announce({ ...tinyScenes, loras: [] })
      await opened.page.evaluate(() => localStorage.clear())
      await opened.context.close()
      await open(api.url)
      await opened.page.getByLabel('Steps').waitFor()
      expect(await group().count()).toBe(0)
    } finally {
      await api.close()
    }
  })
})
