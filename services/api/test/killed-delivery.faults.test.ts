/** An api that is killed in the middle of sending a webhook: api, worker and receiver are real processes or servers. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { WebhookAttempt } from '@easel/contract'
import { startService } from './start-service.ts'
import type { Service } from './start-service.ts'

let service: Service
beforeEach(async () => {
  service = await startService()
})
afterEach(async () => service?.close())

test('a message whose api was killed before the receiver answered is sent by the next api, with the same id', async () => {
  await service.startWorker()
  const body = { prompt: 'a red boat on the sea', num_inference_steps: 2, width: 64, height: 64 }
  const id = await service.submit({ ...body, webhook: service.webhook('never') })
  await expect.poll(() => service.delivered.length, { timeout: 60_000 }).toBe(1)
  await service.replaceApi()
  // The killed api holds the message until its lock has expired and another api looks for it, each of which takes half a minute.
  await expect.poll(() => service.delivered.length, { timeout: 200_000 }).toBe(2)
  const messageId = `msg_${id}_completed`
  expect(service.delivered).toMatchObject([
    { messageId, status: 'succeeded', answer: 'never' },
    { messageId, status: 'succeeded', answer: 200 },
  ])
  const attempts = async (): Promise<WebhookAttempt[]> =>
    ((await (await service.get(`/v1/jobs/${id}/webhooks`)).json()) as { attempts: WebhookAttempt[] }).attempts
  await expect.poll(attempts, { timeout: 60_000 }).toMatchObject([{ message_id: messageId, ok: true }])
})
