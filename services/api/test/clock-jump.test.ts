/** What the api does when its clock jumps. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import type { Job } from '@easel/contract'
import { sweepExpired } from '../src/maintenance/sweep-expired.ts'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

const hourMs = 3_600_000
const secret = `whsec_${Buffer.alloc(32, 3).toString('base64')}`

let api: TestApi
let offsetMs: number
beforeEach(async () => {
  offsetMs = 0
  const env = { WEBHOOK_SECRETS: secret, WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_RETRY_DELAYS: '0,1,1,1,1,1,1,1' }
  api = await startTestApi({ env, now: () => Date.now() + offsetMs })
})
afterEach(async () => api?.close())

test.each([
  ['ahead', hourMs],
  ['back', -hourMs],
])('jobs from before and after a jump %s by an hour are read, listed, canceled and ended like others', async (_, jumpMs) => {
  const [ended, waiting] = [(await api.submit()).id, (await api.submit({ expires_in: 7200 })).id]
  await api.worker.succeed(ended)
  offsetMs = jumpMs
  const fresh = (await api.submit()).id
  const { jobs } = (await (await api.get('/v1/jobs')).json()) as { jobs: Job[] }
  expect(jobs.map(({ id }) => id)).toEqual([fresh, waiting, ended])
  expect((await api.get(`/images/${ended}-0.png`)).status).toBe(200)
  expect((await api.post(`/v1/jobs/${waiting}/cancel`)).status).toBe(200)
  await api.worker.succeed(fresh)
  expect(await (await api.get(`/v1/jobs/${fresh}`)).json()).toMatchObject({ status: 'succeeded' })
})

test('a clock that is ahead by more than RESULT_TTL expires results, and the sweep takes them away for good', async () => {
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

test('a webhook signed by a clock that is wrong is refused by a receiver that checks, and delivered when the clock is right', async () => {
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
  await expect.poll(() => answers, { timeout: 60_000 }).toEqual([[`msg_${id}_completed`, 401]])
  offsetMs = 0
  await expect.poll(() => answers.at(-1), { timeout: 60_000 }).toEqual([`msg_${id}_completed`, 200])
})
