/**
 * Takes docs/playground.png: the playground with finished pictures and one that is growing, in a real browser on a real service.
 * `node scripts/screenshot.ts [light|dark] [width] [file]`.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { findChromium, launchChromium } from './find-chromium.ts'
import { ensurePlayground } from '../packages/cli/src/setup/ensure-playground.ts'
import { startEasel } from './start-easel.ts'

const [scheme = 'light', width = '1360', file = 'docs/playground.png'] = process.argv.slice(2)
const requests = [
  { prompt: 'a big green cat at night', seed: 7 },
  { prompt: 'a red boat on the sea', seed: 42 },
  { prompt: 'a purple flower and a pink balloon in a meadow', seed: 3, num_images_per_prompt: 2 },
  { prompt: 'a black rocket above a white ball at sunset', seed: 5 },
]

const executable = findChromium()
if (executable === undefined) throw new Error('Expected a Chromium (CHROMIUM=/path/to/it), got none')
ensurePlayground()
const easel = await startEasel()
const browser = await launchChromium(executable)
try {
  for (const request of requests) {
    const headers = { 'content-type': 'application/json', prefer: 'wait=60' }
    await fetch(`${easel.url}/v1/jobs`, { method: 'POST', headers, body: JSON.stringify(request) })
  }
  const context = await browser.newContext({
    viewport: { width: Number(width), height: 900 },
    colorScheme: scheme === 'dark' ? 'dark' : 'light',
  })
  const page = await context.newPage()
  await page.goto(easel.url, { waitUntil: 'networkidle' })
  await page.getByLabel('Prompt', { exact: true }).fill('a yellow sun above a blue house')
  await page.getByLabel('Steps').fill('60')
  await page.getByRole('button', { name: 'Make a picture' }).click()
  while (Number(await page.getByRole('progressbar').getAttribute('value')) < 45) await sleep(20)
  // A palette is enough for a page of few colours and small scenes, and a third of the size.
  await sharp(await page.screenshot())
    .png({ palette: true, quality: 95 })
    .toFile(file)
  console.log(file)
} finally {
  await browser.close()
  await easel.stop()
}
