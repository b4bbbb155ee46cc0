import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createStorage } from '@easel/storage'
import type { Storage } from '@easel/storage'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'
import type { Api, AppDeps } from '../app-deps.ts'
import { pageRoutes } from './pages.ts'

const browser = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' }

let api: TestApi
let folder: string
beforeAll(async () => {
  api = await startTestApi({ env: { API_KEYS: 'me:correct-horse' } })
  folder = await mkdtemp(join(tmpdir(), 'easel-pages-'))
  await mkdir(join(folder, 'playground'))
  await writeFile(join(folder, 'index.html'), '<p>playground')
  await writeFile(join(folder, 'docs.html'), '<p>reference')
  await writeFile(join(folder, 'playground', 'index-1.js'), 'plain()')
  await writeFile(join(folder, 'playground', 'index-1.js.br'), 'small')
})
afterAll(async () => {
  await api.close()
  await rm(folder, { recursive: true, force: true })
})

const pages = (deps: Partial<AppDeps> = {}): Api => pageRoutes({ ...api.deps, ...deps }, { folder })

describe('the pages', () => {
  test('are sent to browsers, while everyone else gets a welcome in JSON at /, and neither needs a key', async () => {
    const page = await api.get('/', { headers: browser })
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=UTF-8'])
    expect(page.headers.get('vary')).toContain('Accept')
    for (const accept of ['*/*', 'application/json', 'application/json, text/html;q=0.5', 'image/png']) {
      const welcome = await api.get('/', { headers: { accept } })
      expect([accept, welcome.headers.get('content-type')]).toEqual([accept, 'application/json'])
      expect(welcome.headers.get('vary')).toContain('Accept')
      expect(await welcome.json()).toMatchObject({ name: 'Easel' })
    }
    expect((await api.get('/docs')).status).toBe(200)
    expect((await api.get('/v1/jobs')).status).toBe(401)
  })

  test('have a policy that allows nothing from elsewhere and nothing inline', async () => {
    const page = await pages().request('/', { headers: browser })
    expect(await page.text()).toBe('<p>playground')
    const policy = page.headers.get('content-security-policy')
    expect(policy).toContain("default-src 'self'; img-src 'self' data: blob:; style-src 'self';")
    expect(policy).not.toContain('unsafe')
    expect(page.headers.get('x-content-type-options')).toBe('nosniff')
    const reference = await pages().request('/docs')
    expect(await reference.text()).toBe('<p>reference')
    expect(reference.headers.get('content-security-policy')).toContain("style-src 'self' 'unsafe-inline'")
  })

  test('may show pictures from the object store', async () => {
    const storage = createStorage({
      kind: 's3',
      endpoint: 'http://inside:9000',
      publicEndpoint: 'https://pictures.example.com',
      bucket: 'easel',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    })
    const page = await pages({ storage }).request('/', { headers: browser })
    expect(page.headers.get('content-security-policy')).toContain("img-src 'self' data: blob: https://pictures.example.com;")
    await storage.close()
  })

  test('lose only their pictures while the object store is out of reach', async () => {
    let reachable = false
    const url: Storage['url'] = async () => {
      if (!reachable) throw new Error('no credentials yet')
      return { url: 'https://pictures.example.com/easel/x?signed', expiresAt: new Date() }
    }
    const app = pages({ storage: Object.assign(createStorage(api.deps.config.storage), { url }) })
    const policy = async () => (await app.request('/', { headers: browser })).headers.get('content-security-policy')
    expect(await policy()).toContain("img-src 'self' data: blob:;")
    reachable = true
    expect(await policy()).toContain('https://pictures.example.com')
  })

  test('have files that are sent compressed to those who accept it, and may be cached for ever', async () => {
    const plain = await pages().request('/playground/index-1.js')
    expect([plain.status, await plain.text(), plain.headers.get('cache-control')]).toEqual([
      200,
      'plain()',
      'public, max-age=31536000, immutable',
    ])
    const small = await pages().request('/playground/index-1.js', { headers: { 'accept-encoding': 'br' } })
    expect([await small.text(), small.headers.get('content-encoding')]).toEqual(['small', 'br'])
    expect((await pages().request('/playground/..%2fdocs.html')).status).toBe(404)
    expect((await pages().request('/playground/none.js')).status).toBe(404)
  })

  test('are replaced by a sentence if they have not been built', async () => {
    const page = await pageRoutes(api.deps, { folder: join(folder, 'none') }).request('/', { headers: browser })
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('not been built yet')])
  })
})
