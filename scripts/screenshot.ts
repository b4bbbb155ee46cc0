/**
 * Takes screenshots of the pages in a real browser on a real service: docs/playground.png and docs/status.png or, given a folder, the status page and
 * every state of the playground, at the width of a desktop, a tablet and a phone, and in dark mode, for people to look at.
 * `node scripts/screenshot.ts [folder [state …]]`.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import sharp from 'sharp'
import type { Capabilities } from '../packages/contract/src/index.ts'
import { findChromium, launchChromium } from './find-chromium.ts'
import { ensurePlayground } from '../packages/cli/src/setup/ensure-playground.ts'
import { startEasel } from './start-easel.ts'

const [folder, ...wanted] = process.argv.slice(2)
const requests = [
  { prompt: 'a big green cat at night', seed: 7 },
  { prompt: 'a red boat on the sea', seed: 42 },
  { prompt: 'a purple flower and a pink balloon in a meadow', seed: 3, num_images_per_prompt: 4 },
  { prompt: 'a black rocket above a white ball at sunset', seed: 5 },
  { prompt: 'a blue umbrella in the snow', seed: 11 },
  { prompt: 'a red house and a green tree on the grass', seed: 8, width: 192, height: 128 },
  { prompt: 'an orange fish on a teal background', seed: 2, num_images_per_prompt: 2 },
]
/** Other jobs that a gallery may contain, which are not for the documentation. */
const oddities = [
  { prompt: `a white house in the desert, ${'and beside it a small green tree, '.repeat(8)}at noon`, seed: 12, width: 128, height: 192 },
  { prompt: 'a brown cat on the grass', seed: 13, num_images_per_prompt: 10 },
  // It may not take that long, so it fails.
  { prompt: 'a silver robot in the rain', num_inference_steps: 200, num_images_per_prompt: 4, width: 256, height: 256, timeout: 1 },
]
const sights = [
  { name: 'desktop', colorScheme: 'light', viewport: { width: 1400, height: 900 } },
  { name: 'dark', colorScheme: 'dark', viewport: { width: 1400, height: 900 } },
  { name: 'tablet', colorScheme: 'light', viewport: { width: 900, height: 1100 } },
  { name: 'phone', colorScheme: 'light', viewport: { width: 375, height: 800 } },
] as const

const executable = findChromium()
if (executable === undefined) throw new Error('Expected a Chromium (CHROMIUM=/path/to/it), got none')
ensurePlayground()
const lorasDir = fileURLToPath(new URL('../packages/pipeline/test/loras', import.meta.url))
const operator = { username: 'operator', password: 'an-operators-key' }
const easel = await startEasel({ env: { LORAS_DIR: lorasDir, ADMIN_KEY: operator.password, WEBHOOK_ALLOW_INSECURE: 'true' } })
const browser = await launchChromium(executable)

const post = async (path: string, body: unknown, prefer = 'wait=60'): Promise<{ id: string }> => {
  const headers = { 'content-type': 'application/json', prefer }
  return (await (await fetch(easel.url + path, { method: 'POST', headers, body: JSON.stringify(body) })).json()) as { id: string }
}

/** What the screenshot of the status page shows besides jobs: a failure, a webhook whose receiver does not answer, and work in progress. */
async function makeNews(): Promise<void> {
  const large = { num_inference_steps: 200, width: 256, height: 256, num_images_per_prompt: 2 }
  await post('/v1/jobs', { ...large, prompt: 'a gray mushroom in the desert', timeout: 1 })
  await post('/v1/jobs', { prompt: 'a red ball', num_inference_steps: 4, webhook: 'http://127.0.0.1:9/hook' })
  for (let i = 0; i < 12; i++) await post('/v1/jobs', { ...large, prompt: 'a purple umbrella' }, 'wait=0')
  // Until the worker's next heartbeat reports them.
  await sleep(6000)
}

const documented: Partial<Record<string, string>> = { growing: 'docs/playground.png', status: 'docs/status.png' }

/** Each function leaves the page as it should be seen. */
const states: Record<string, (page: Page) => Promise<void>> = {
  gallery: async () => {},
  growing: async (page) => {
    await page.getByLabel('Prompt', { exact: true }).fill('a yellow sun above a blue house')
    await page.getByText('Advanced settings').click()
    await page.getByLabel('Steps').fill('60')
    await page.getByText('Advanced settings').click()
    await page.getByRole('button', { name: 'Make a picture' }).click()
    while (Number(await page.getByRole('progressbar').first().getAttribute('value')) < 45) await sleep(20)
  },
  lightbox: async (page) => {
    await page.getByRole('button', { name: 'Open: a red boat on the sea' }).click()
    await page.getByRole('button', { name: '☆ Favourite' }).click()
  },
  painting: async (page) => {
    await page.getByRole('button', { name: 'Use as input: a red boat on the sea' }).click()
    await page.getByLabel('Prompt', { exact: true }).fill('a blue boat on the sea')
    await page.getByRole('button', { name: 'Paint a mask' }).click()
    const mask = page.getByRole('application', { name: /^Mask/ })
    await mask.scrollIntoViewIfNeeded()
    const { x, y, width } = (await mask.boundingBox())!
    await page.mouse.move(x + width * 0.3, y + width * 0.6)
    await page.mouse.down()
    await page.mouse.move(x + width * 0.7, y + width * 0.6, { steps: 5 })
    await page.mouse.up()
  },
  loras: async (page) => {
    await page.getByText('Advanced settings').click()
    const add = page.getByRole('button', { name: 'Add a LoRA' })
    await add.click()
    await page.getByLabel('Scale of tint').fill('-1.5')
    await add.click()
    await page.getByLabel('Scale of wobble').fill('9')
    await page.getByLabel('Prompt', { exact: true }).fill('a blue boat on the sea')
    await page.getByRole('button', { name: 'Make a picture' }).click()
    await page.locator('.lora .error').waitFor()
  },
  errors: async (page) => {
    await page.getByText('Advanced settings').click()
    await page.getByLabel('Prompt', { exact: true }).fill(' ')
    await page.getByText('Custom').click()
    await page.getByLabel('Width').fill('100')
    await page.getByLabel('Steps').fill('0')
    await page.getByRole('button', { name: 'Make a picture' }).click()
    await page.locator('#width-error').waitFor()
  },
  selecting: async (page) => {
    await page.getByRole('button', { name: 'Select', exact: true }).click()
    await page.getByLabel('Select: a red boat on the sea').check()
    await page.getByRole('button', { name: 'Delete 1 selected' }).click()
  },
  waiting: async (page) => {
    // The api's own answer, but without any worker.
    await page.route('**/v1/capabilities', async (route) => {
      const { models } = (await (await route.fetch()).json()) as Capabilities
      await route.fulfill({ json: { models: models.map((model) => ({ ...model, workers: 0 })) } })
    })
    await page.getByText('No worker is running now.').waitFor()
  },
  key: async (page) => {
    await page.route('**/v1/*', async (route) => {
      await route.fulfill({ status: 401, json: { code: 'unauthorized', detail: 'An API key is required.' } })
    })
    await page.reload()
    await page.getByLabel('API key').waitFor()
  },
  away: async (page) => {
    await page.context().setOffline(true)
    await page.getByText('The server does not answer.').waitFor()
  },
  status: async (page) => {
    if (folder === undefined) await makeNews()
    await page.goto(`${easel.url}/admin`)
    await page.getByRole('region', { name: 'Shares' }).getByRole('row').nth(1).waitFor()
  },
}

/** States of which only the visible part of the page matters. */
const ofWindow = new Set(['lightbox', 'painting', 'loras'])

/** Also loads the pictures below the fold, which a page loads only when it is scrolled. */
const loadPictures = `Promise.all([...document.images].map((image) => {
  image.loading = 'eager'
  return image.decode().catch(() => {})
}))`

/** Takes a screenshot for each sight, or only for the first one for the documentation. */
async function take(state: string, reach: (page: Page) => Promise<void>): Promise<void> {
  if (wanted.length > 0 && !wanted.includes(state)) return
  for (const { name, ...options } of folder === undefined ? sights.slice(0, 1) : sights) {
    const context = await browser.newContext({ ...options, httpCredentials: operator })
    const page = await context.newPage()
    await page.goto(easel.url)
    await page.locator('.card').or(page.getByText('Nothing here yet.')).first().waitFor()
    await reach(page)
    await page.evaluate(loadPictures)
    const file = folder === undefined ? (documented[state] ?? '') : join(folder, `${name}-${state}.png`)
    // A palette is enough for a page of few colours and small scenes, and makes the file a third of the size.
    const taken = await page.screenshot({ fullPage: state === 'status' || (folder !== undefined && !ofWindow.has(state)) })
    await sharp(taken).png({ palette: true, quality: 95 }).toFile(file)
    console.log(file)
    await context.close()
  }
}

try {
  if (folder !== undefined) {
    mkdirSync(folder, { recursive: true })
    await take('empty', async (page) => await page.getByText('Nothing here yet.').waitFor())
    for (const request of oddities) await post('/v1/jobs', request)
    const canceled = await post('/v1/jobs', { prompt: 'a gray mushroom in the desert', num_inference_steps: 200 }, 'wait=0')
    await post(`/v1/jobs/${canceled.id}/cancel`, {})
  }
  for (const request of requests) await post('/v1/jobs', request)
  for (const [state, reach] of Object.entries(states)) if (folder !== undefined || documented[state] !== undefined) await take(state, reach)
} finally {
  await browser.close()
  await easel.stop()
}
