import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { JobList } from '@easel/contract'
import { startTestApi } from '../../test/start-api.ts'
import type { TestApi } from '../../test/start-api.ts'

let api: TestApi
let now = Date.now()
const ids: string[] = []
const alice = { 'X-API-Key': 'alice-secret' }

beforeAll(async () => {
  api = await startTestApi({ env: { API_KEYS: 'alice-secret,bob-bob-secret', RESULT_TTL: '100' }, now: () => now })
  for (let i = 0; i < 5; i++) ids.unshift(((await (await api.post('/v1/jobs', { prompt: `p${i}` }, alice)).json()) as { id: string }).id)
})
afterAll(() => api.close())

async function list(query: string, headers: Record<string, string> = alice): Promise<JobList & { link: string | null }> {
  const response = await api.get(`/v1/jobs${query}`, { headers })
  expect(response.status).toBe(200)
  return { ...((await response.json()) as JobList), link: response.headers.get('Link') }
}

test('jobs are listed page by page, newest first and each once, and the last page has no next', async () => {
  const first = await list('?limit=2')
  expect(first.jobs.map((job) => job.id)).toEqual(ids.slice(0, 2))
  expect(first.link).toBe(`</v1/jobs?limit=2&cursor=${first.next}>; rel="next"`)
  await api.post('/v1/jobs', { prompt: 'made between two pages' }, alice)
  const second = await list(first.link?.slice('</v1/jobs'.length, first.link.indexOf('>')) ?? '')
  const third = await list(`?limit=2&cursor=${second.next}`)
  expect([...second.jobs, ...third.jobs].map((job) => job.id)).toEqual(ids.slice(2))
  expect([third.next, third.link]).toEqual([null, null])
})

test('a job is listed as a poll shows it', async () => {
  const [job] = (await list('?limit=1')).jobs
  expect(job).toEqual(await (await api.get(`/v1/jobs/${job?.id}`, { headers: alice })).json())
})

test('only the jobs of one status are listed on request', async () => {
  await api.worker.store.start(ids[4] ?? '', 'w')
  await api.worker.succeed(ids[3] ?? '')
  expect((await list('?status=running')).jobs.map((job) => job.id)).toEqual([ids[4]])
  expect((await list('?status=succeeded')).jobs.map((job) => job.id)).toEqual([ids[3]])
  expect((await list('?status=queued&limit=100')).jobs.map((job) => job.id)).toEqual(expect.not.arrayContaining([ids[3], ids[4]]))
  expect((await list('?status=failed')).jobs).toEqual([])
})

test('the jobs of one key are not listed for another', async () => {
  expect(await list('', { 'X-API-Key': 'bob-bob-secret' })).toEqual({ jobs: [], next: null, link: null })
})

test('a job past its retention is not listed, even before the sweep removes it', async () => {
  now = Date.now() + 101_000
  expect((await list('?status=succeeded')).jobs).toEqual([])
  now = Date.now()
})

test('an invalid limit, cursor or status is refused by name, and so is an unknown field', async () => {
  for (const [query, field] of [
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=two', 'limit'],
    ['limit=1.5', 'limit'],
    ['cursor=x', 'cursor'],
    ['status=done', 'status'],
    ['page=2', 'page'],
  ]) {
    const response = await api.get(`/v1/jobs?${query}`, { headers: alice })
    expect(response.status).toBe(422)
    expect(await response.json()).toMatchObject({ code: 'invalid_request', errors: [{ field }] })
  }
})

test('a page ends at 1 MiB, and its cursor leads on, in every dialect that has lists', async () => {
  const heavy = await startTestApi({ redis: api.redis, env: { QUEUE_PREFIX: '{heavy}', MAX_PROMPT_LENGTH: '4000' } })
  // A control character takes six bytes of JSON, so a job has about 48 kB.
  const prompt = '\u0001'.repeat(4000)
  const made: string[] = []
  for (let i = 0; i < 45; i++) made.push((await heavy.submit({ prompt, negative_prompt: prompt })).id)
  const walk = async (first: string, toPage: (body: string) => { ids: string[]; next: string | null }): Promise<string[]> => {
    const ids: string[] = []
    const pages: number[] = []
    for (let path: string | null = first; path !== null;) {
      const body = await (await heavy.get(path)).text()
      expect(Buffer.byteLength(body)).toBeLessThanOrEqual(1024 * 1024)
      const page = toPage(body)
      ids.push(...page.ids)
      pages.push(page.ids.length)
      path = page.next
    }
    expect(pages.length).toBeGreaterThanOrEqual(3)
    return ids
  }
  const ours = await walk('/v1/jobs?limit=100', (body) => {
    const { jobs, next } = JSON.parse(body) as JobList
    return { ids: jobs.map(({ id }) => id), next: next === null ? null : `/v1/jobs?limit=100&cursor=${next}` }
  })
  const replicates = await walk('/v1/predictions', (body) => {
    const { results, next } = JSON.parse(body) as { results: { id: string }[]; next: string | null }
    return { ids: results.map(({ id }) => id), next: next === null ? null : next.slice(heavy.url.length) }
  })
  // An id begins with the instant at which its job was made.
  const newestFirst = made.toSorted().toReversed()
  expect([ours, replicates]).toEqual([newestFirst, newestFirst])
  await heavy.close()
})

test('an api reads one page of an owner at a time, so that the lists of one owner do not hold up another', async () => {
  const read = api.worker.store.list.bind(api.worker.store)
  using pages = vi.spyOn(api.deps.store, 'list')
  const held = Promise.withResolvers<void>()
  const owners: string[] = []
  pages.mockImplementation(async (owner, options) => {
    owners.push(owner)
    if (owner === owners[0]) await held.promise
    return await read(owner, options)
  })
  const ofAlice = Array.from({ length: 10 }, () => list('?limit=1'))
  await expect.poll(() => owners.length).toBe(1)
  expect((await list('', { 'X-API-Key': 'bob-bob-secret' })).jobs).toEqual([])
  expect(owners.length).toBe(2)
  held.resolve()
  expect((await Promise.all(ofAlice)).map(({ jobs }) => jobs.length)).toEqual(ofAlice.map(() => 1))
})
