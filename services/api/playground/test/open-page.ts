/** Opens a page in a real browser for tests, records what a page must never do, and checks its accessibility. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Browser, BrowserContext, Page } from 'playwright-core'

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export interface OpenedPage {
  context: BrowserContext
  page: Page
  /** Uncaught errors, violations of the page's Content-Security-Policy, and requests to other servers. */
  complaints: string[]
}

/** `url` is that of the server, and `path` leads to the page. */
export async function openPage(
  browser: Browser,
  url: string,
  options: Parameters<Browser['newContext']>[0] = {},
  path = '',
): Promise<OpenedPage> {
  const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'], ...options })
  // The limit of each wait in a test: a busy machine needs more than Playwright's half minute.
  context.setDefaultTimeout(90_000)
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) complaints.push(message.text())
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !/^(?:data|blob):/.test(request.url())) complaints.push(`asked ${request.url()}`)
  })
  await page.goto(url + path)
  return { context, page, complaints }
}

/** Resolves when the page has drawn another frame and has done what it does after one, as for what it has just been shown or told. */
export async function untilDrawn(page: Page): Promise<void> {
  await page.evaluate(async () => await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))))
}

/** The violations that axe finds on the page as it is now, and whether it can be scrolled sideways. */
export async function findHindrances(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  return await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } }
    const violations = (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
    const { scrollWidth, clientWidth } = document.documentElement
    return scrollWidth > clientWidth ? [...violations, `wider than the window: ${scrollWidth} over ${clientWidth}`] : violations
  })
}
