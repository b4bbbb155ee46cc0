/** GET /v1/jobs/{id}/webhooks lists attempts, POST /v1/jobs/{id}/webhooks/redeliver sends the latest message again. */
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { ProblemError, isEnded, isJobId, webhookAttemptSchema, webhookEventNames, webhookMessageId } from '@easel/contract'
import type { WebhookEventName } from '@easel/contract'
import { wantsWebhook } from '@easel/job-store'
import type { JobRecord } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { findJob } from '../jobs/find-job.ts'
import type { FindNeeds } from '../jobs/find-job.ts'
import { describeProblems } from '../middleware/problem.ts'
import { listAttempts } from '../webhooks/webhook-attempts.ts'

/** Within this many milliseconds the latest message of a job can be redelivered once. */
const redeliveryMs = 30_000

const jobParams = z.object({ id: z.string().max(100).meta({ description: 'Id of the job.' }) })

export function webhookRoutes(deps: FindNeeds & Pick<AppDeps, 'outbox' | 'redis'>) {
  const app: Api = new OpenAPIHono<AppEnv>()
  const { outbox, redis, store } = deps

  /** Throws unless the job belongs to the caller; a removed job counts as long as one of its messages exists. */
  async function checkOwner(id: string, owner: string): Promise<void> {
    try {
      await findJob(deps, id, owner)
    } catch (error) {
      if (!(error instanceof ProblemError) || !isJobId(id)) throw error
      const told = (await store.get(id))?.owner ?? (await outbox.findKeptOwner(id))
      if (told !== owner && (told === undefined || !deps.apiKeys.isFormerly(told, owner))) throw error
      const isUnswept = (await store.getWebhook(id)) !== undefined
      if (isUnswept && (await outbox.findUnsent(id, webhookEventNames)).length === 0) throw error
    }
  }

  const list = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/webhooks',
    summary: 'List attempts to deliver webhooks of a job',
    request: { params: jobParams },
    responses: {
      200: {
        description: 'The latest attempts, oldest first; for a deleted job, as long as one of its messages is still being retried.',
        content: { 'application/json': { schema: z.object({ attempts: z.array(webhookAttemptSchema) }) } },
      },
      ...describeProblems('unauthorized', 'not_found', 'expired', 'queue_unavailable'),
    },
  })
  const withList = app.openapi(list, async (c) => {
    const { id } = c.req.valid('param')
    await checkOwner(id, c.var.owner)
    return c.json({ attempts: await listAttempts(redis, store.keys, id) }, 200)
  })

  const redeliver = createRoute({
    method: 'post',
    path: '/v1/jobs/{id}/webhooks/redeliver',
    summary: 'Send the latest webhook message of a job again',
    request: { params: jobParams },
    responses: {
      202: {
        description: 'The message is sent at once, with the same id as before.',
        content: { 'application/json': { schema: z.object({ message_id: z.string(), event: z.enum(webhookEventNames) }) } },
      },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'webhook_gone', 'expired', 'queue_unavailable'),
    },
  })
  return withList.openapi(redeliver, async (c) => {
    const record = await findJob(deps, c.req.valid('param').id, c.var.owner)
    const event = findLatestEvent(record)
    const none = (): ProblemError => new ProblemError('not_found', 'The job has no webhook, or nothing has happened that it asked for.')
    if (event === undefined) throw none()
    if ((await listAttempts(redis, store.keys, record.id)).some(({ status }) => status === 410)) throw new ProblemError('webhook_gone')
    const recently = store.keys.webhookRedelivery(record.id)
    if ((await redis.set(recently, event, 'PX', redeliveryMs, 'NX')) === null) {
      const retryAfterSeconds = Math.max(1, Math.ceil((await redis.pttl(recently)) / 1000))
      throw new ProblemError('rate_limited', `Expected one redelivery of a job in ${redeliveryMs / 1000} s, got more.`, {
        retryAfterSeconds,
      })
    }
    if ((await outbox.redeliver(record.id, event)) === 'not_due') {
      await redis.del(recently)
      throw none()
    }
    c.var.logger.info({ jobId: record.id, event }, 'webhook redelivery')
    return c.json({ message_id: webhookMessageId(record.id, event), event }, 202)
  })
}

/** The last event of the job that its webhook wants; progress is not redelivered. */
function findLatestEvent(record: JobRecord): WebhookEventName | undefined {
  const happened: WebhookEventName[] = ['queued']
  if (record.startedAt !== undefined) happened.push('started')
  if (isEnded(record.status)) happened.push('completed')
  return happened.findLast((event) => wantsWebhook(record, event))
}
