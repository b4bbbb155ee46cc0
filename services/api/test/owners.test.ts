/** Every route of the description is asked without a key, with a wrong key, and with the key of someone who does not own the job. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

interface Operation {
  path: string
  method: string
  /** Undefined: it needs a key, as all routes do. */
  security: unknown[] | undefined
  example: unknown
}

const alice = 'alices-own-key'
const bob = 'bobs-own-key'
const prompt = 'a secret of alice'

let api: TestApi
let operations: Operation[]
/** Jobs of Alice: one that waits, and one that has succeeded; both have a webhook. */
let jobs: string[]
/** Client addresses for which no wrong key has been counted yet. */
let addresses = 0

beforeAll(async () => {
  const env = { API_KEYS: `alice:${alice},bob:${bob}`, TRUSTED_PROXIES: '1', WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_RETRY_DELAYS: '0' }
  api = await startTestApi({ env })
  operations = await readOperations()
  const submit = async (): Promise<string> => {
    const body = { prompt, webhook: 'http://127.0.0.1:9/', webhook_events_filter: ['queued', 'completed'] }
    const response = await api.post('/v1/jobs', body, keyHeaders(alice))
    return ((await response.json()) as { id: string }).id
  }
  jobs = [await submit(), await submit()]
  await api.worker.succeed(jobs[1] ?? '')
  // The webhook has been called, so that there is something to send again.
  const attempts = async (): Promise<string> => await (await api.get(`/v1/jobs/${jobs[0]}/webhooks`, { headers: keyHeaders(alice) })).text()
  await vi.waitUntil(async () => (await attempts()).includes('"event":"queued"'), { timeout: 60_000 })
})
afterAll(async () => await api.close())

async function readOperations(): Promise<Operation[]> {
  const document = (await (await api.get('/openapi.json')).json()) as {
    paths: Record<string, Record<string, { security?: unknown[]; requestBody?: { content: Record<string, { example?: unknown }> } }>>
  }
  return Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { security, requestBody }]) => {
      return { path, method: method.toUpperCase(), security, example: requestBody?.content['application/json']?.example }
    }),
  )
}

function keyHeaders(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { Authorization: `Bearer ${key}` }
}

/** The status and the text of the answer; a stream, which only callers get who may have it, is not read. */
async function ask({ path, method, example }: Operation, { key, id = '' }: { key?: string; id?: string }): Promise<[number, string]> {
  const values: Record<string, string> = { id, file: `${id}-0.png`, owner: 'local', name: 'tiny-scenes', model: 'tiny-scenes' }
  const response = await api.get(
    path.replaceAll(/\{(\w+)\}/g, (_, name: string) => values[name] ?? name),
    {
      method,
      headers: { ...keyHeaders(key), 'X-Forwarded-For': `192.0.2.${++addresses % 250}`, 'Content-Type': 'application/json' },
      redirect: 'manual',
      ...(example === undefined ? {} : { body: JSON.stringify(example) }),
    },
  )
  if (response.headers.get('content-type') !== 'text/event-stream') return [response.status, await response.text()]
  await response.body?.cancel()
  return [response.status, 'a stream']
}

/** The routes of one job; those that end it come last. */
const ofJobs = (): Operation[] =>
  operations
    // Uploads have ids of their own; uploads.test.ts keeps their owners apart.
    .filter(({ path, security }) => path.includes('{id}') && !/\/(uploads|files)\//.test(path) && security === undefined)
    .toSorted((a, b) => Number(a.method === 'DELETE') - Number(b.method === 'DELETE'))

test('without a key, or with a wrong one, every route is closed unless it is described as open', async () => {
  for (const operation of operations) {
    const open = operation.security?.length === 0
    for (const key of [undefined, 'a-wrong-key', alice.toUpperCase(), `${alice} x`]) {
      const [status, text] = await ask(operation, { ...(key !== undefined && { key }), id: jobs[1] ?? '' })
      const where = `${operation.method} ${operation.path} ${key}`
      expect([where, status === 401]).toEqual([where, !open])
      expect([where, !open && text.includes(prompt)]).toEqual([where, false])
    }
  }
  expect(operations.filter(({ security }) => security === undefined).length).toBeGreaterThan(20)
})

describe('the job of another key', () => {
  test('is not found by any route, whatever is to be done with it, and stays as it was', async () => {
    const records = async (): Promise<unknown> => await api.worker.store.getMany(jobs)
    const before = await records()
    expect(ofJobs().length).toBeGreaterThan(11)
    for (const operation of ofJobs()) {
      for (const id of jobs) {
        const [status, text] = await ask(operation, { key: bob, id })
        const where = `${operation.method} ${operation.path}`
        expect([where, status]).toEqual([where, 404])
        expect(text).not.toContain(prompt)
      }
    }
    expect(await records()).toEqual(before)
  })

  test('is in no list', async () => {
    for (const path of ['/v1/jobs', '/v1/predictions']) {
      const listed = async (key: string): Promise<boolean> =>
        (await (await api.get(path, { headers: keyHeaders(key) })).text()).includes(jobs[0] ?? '')
      expect([path, await listed(alice), await listed(bob)]).toEqual([path, true, false])
    }
  })

  test('is found by its owner on each of these routes', async () => {
    for (const operation of ofJobs()) {
      const where = `${operation.method} ${operation.path}`
      const statuses: number[] = []
      for (const id of jobs) statuses.push((await ask(operation, { key: alice, id }))[0])
      // One of the jobs can be canceled, and the other has a result.
      expect([where, Math.min(...statuses) < 300]).toEqual([where, true])
    }
  })
})
