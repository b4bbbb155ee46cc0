/** What the api does when its clock, or that of Redis, is wrong. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import type { Capabilities, Job, Upload } from '@easel/contract'
import { endAbandoned } from '../src/maintenance/end-abandoned.ts'
import { expireQueued } from '../src/maintenance/expire-queued.ts'
import { requeueOrphans } from '../src/maintenance/requeue-orphans.ts'
import { sweepExpired } from '../src/maintenance/sweep-expired.ts'
import { sweepInputs } from '../src/maintenance/sweep-inputs.ts'
import { uniquePng } from './pictures.ts'
import { startTestApi, tinyScenes } from './start-api.ts'
import type { TestApi } from './start-api.ts'

const hourMs = 3_600_000
const secret = `whsec_${Buffer.alloc(32, 3).toString('base64')}`

let api: TestApi
let offsetMs: number
beforeEach(async () => {
  offsetMs = 0
  const env = { WEBHOOK_SECRETS: secret, WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_RETRY_DELAYS: '0,1' }
  api = await startTestApi({ env, now: () => Date.now() + offsetMs })
})
afterEach(async () => api?.close())

test.each([
  ['ahead', hourMs],
  ['behind', -hourMs],
])(
  'an api on a machine whose clock is an hour %s shares jobs, workers, uploads and housekeeping with one whose clock is right',
  async (_, skewMs) => {
    const model = { ...tinyScenes, has_vae_encoder: true }
    const other = await startTestApi({ redis: api.redis, env: { STORAGE_DIR: api.storageDir }, model, localNow: () => Date.now() + skewMs })
    onTestFinished(() => other.close())
    await expect.poll(() => Math.abs(other.deps.now() - Date.now())).toBeLessThan(1000)
    const worker = { id: 'w1', model: model.id, concurrency: 1, active: 0, device: 'cpu', engine_memory_bytes: 1, ready: true }

    // Both list all jobs in the order in which they were made, and no time is off.
    const both = [api, other]
    const made: string[] = []
    for (const [i, easel] of [api, other, api, other].entries()) {
      const { id, created_at: at } = await easel.submit({ expires_in: 60, prompt: `p${i}` })
      made.push(id)
      // Each api knows the clock of Redis only as well as it could measure it, which is to some milliseconds.
      await expect.poll(() => Math.min(...both.map(({ deps }) => deps.now()))).toBeGreaterThan(Date.parse(at))
    }
    for (const easel of both) {
      const { jobs } = (await (await easel.get('/v1/jobs')).json()) as { jobs: Job[] }
      expect(jobs.map(({ id }) => id)).toEqual(made.toReversed())
      for (const { created_at: at } of jobs) expect(Math.abs(Date.parse(at) - Date.now())).toBeLessThan(30_000)
      await api.worker.registry.heartbeat(worker)
      const { models } = (await (await easel.get('/v1/capabilities')).json()) as Capabilities
      expect(models.map(({ workers }) => workers)).toEqual([1])
    }
    // Nothing is given up or removed early.
    const [ended = '', running = '', ...waiting] = made
    await api.worker.succeed(ended)
    await api.worker.store.start(running, 'w1')
    const file = await other.get('/v1/uploads', { method: 'POST', body: new Uint8Array(await uniquePng()) })
    const upload = (await file.json()) as Upload
    expect(Math.abs(Date.parse(upload.expires_at ?? '') - Date.now() - 24 * hourMs)).toBeLessThan(30_000)
    for (const { deps } of both) {
      const counts = [expireQueued(deps), endAbandoned(deps), requeueOrphans(deps), sweepExpired(deps), sweepInputs(deps)]
      expect(await Promise.all(counts)).toEqual([0, 0, 0, 0, 0])
    }
    for (const easel of both) {
      expect((await easel.get(`/v1/uploads/${upload.id}`)).status).toBe(200)
      for (const id of [ended, ...waiting]) expect((await easel.get(`/v1/jobs/${id}`)).status).toBe(200)
    }
    expect((await other.post(`/v1/jobs/${waiting[0]}/cancel`)).status).toBe(200)
  },
)

test('a clock of Redis that is ahead by more than RESULT_TTL makes results expire, and the sweep removes them for good', async () => {
  const { id } = await api.submit()
  await api.worker.succeed(id)
  const statuses = async (): Promise<number[]> =>
    await Promise.all([`/v1/jobs/${id}`, `/images/${id}-0.png`].map(async (path) => (await api.get(path)).status))
  expect(await statuses()).toEqual([200, 200])
  offsetMs = 25 * hourMs
  expect(await statuses()).toEqual([410, 410])
  await sweepExpired(api.deps)
  offsetMs = 0
  expect(await statuses()).toEqual([404, 404])
})

test('a webhook signed while the clock of Redis is wrong is refused by a receiver that checks signatures, and delivered once the clock is right', async () => {
  const answers: [id: string | undefined, status: number][] = []
  const receiver = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      const headers = request.headers as Record<string, string>
      let status = 200
      try {
        new Webhook(secret).verify(text, headers)
      } catch {
        status = 401
        // From now on the clock is right.
        offsetMs = 0
      }
      answers.push([headers['webhook-id'], status])
      response.writeHead(status).end()
    })
  })
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  onTestFinished(async () => {
    receiver.close()
    receiver.closeAllConnections()
    await once(receiver, 'close')
  })
  offsetMs = hourMs
  const { id } = await api.submit({ webhook: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/` })
  await api.post(`/v1/jobs/${id}/cancel`)
  const both = [401, 200].map((status) => [`msg_${id}_completed`, status])
  await expect.poll(() => answers, { timeout: 60_000 }).toEqual(both)
})
