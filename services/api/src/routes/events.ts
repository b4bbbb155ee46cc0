/**
 * GET /v1/jobs/{id}/events: what happens to a job, as server-sent events. The id of an event is the entry id in the job's Redis stream, so that
 * a client can continue at any replica. Ends after `done`.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import { isEnded, jobEventSchema } from '@easel/contract'
import type { JobRecord, StreamedJobEvent } from '@easel/job-store'
import type { Api, AppDeps, AppEnv } from '../app-deps.ts'
import { isEventId } from '../events/job-follower.ts'
import { sendEvents } from '../events/send-events.ts'
import { findJob } from '../jobs/find-job.ts'
import type { FindNeeds } from '../jobs/find-job.ts'
import { toJob } from '../jobs/to-job.ts'
import type { ToJobNeeds } from '../jobs/to-job.ts'
import { describeValue } from '../problems/field-errors.ts'
import { describeProblems, refuseInvalid } from '../middleware/problem.ts'
import { refuseFields } from '../problems/refuse-fields.ts'

export interface EventRoutesOptions {
  /** The time between comments that keep a silent connection alive, in milliseconds, 1 or more. Default 15000. */
  heartbeatMs?: number
  /** The time between two readings of the queue while a job has not ended, in milliseconds, 1 or more. Default 1000. */
  queueMs?: number
}

type EventNeeds = FindNeeds & ToJobNeeds & Pick<AppDeps, 'follower' | 'graceOver'>

/** After how many milliseconds a client that lost the connection should reconnect. */
const retryMs = 1000

export function eventRoutes(deps: EventNeeds, { heartbeatMs = 15_000, queueMs = 1000 }: EventRoutesOptions = {}) {
  const app: Api = new OpenAPIHono<AppEnv>({ defaultHook: refuseInvalid })
  const events = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/events',
    summary: 'Follow a job (server-sent events)',
    description:
      'Events `status`, `progress`, `preview` and, last, `done` with the job object. Past events are replayed first. `Last-Event-ID` resumes after an event, at any replica. In between, `queue` reports `queue_position` and `eta_seconds` when they change: it has no id and is not replayed.',
    request: {
      params: z.object({ id: z.string().max(100).meta({ description: 'Id of the job.' }) }),
      headers: z.object({ 'last-event-id': z.string().optional().meta({ description: 'Id of the last event that was received.' }) }),
    },
    responses: {
      200: { description: 'The stream of events.', content: { 'text/event-stream': { schema: jobEventSchema } } },
      204: { description: 'There are no events after that one, and there will be none: do not reconnect.' },
      ...describeProblems('unauthorized', 'rate_limited', 'not_found', 'expired', 'invalid_request', 'queue_unavailable'),
    },
  })
  return app.openapi(events, async (c) => {
    const lastEventId = c.req.header('last-event-id')
    if (lastEventId !== undefined && lastEventId !== '' && !isEventId(lastEventId)) {
      throw refuseFields([{ field: 'Last-Event-ID', expected: 'the id of an event', received: describeValue(lastEventId) }])
    }
    const after = lastEventId === '' ? undefined : lastEventId
    const record = await findJob(deps, c.req.valid('param').id, c.var.owner)
    if (isEnded(record.status) && (await isAtEnd(deps, record, after))) return c.body(null, 204)

    return sendEvents(deps, c, { jobId: record.id, heartbeatMs }, async ({ stream, signal }) => {
      void tellQueue(deps, record.id, { queueMs, signal, write: (data) => stream.writeSSE({ event: 'queue', data }) })
      // A client whose stream ended without `done` reconnects by itself, with Last-Event-ID.
      await stream.write(`retry: ${retryMs}\n\n`)
      for await (const event of deps.follower.follow(record.id, { after, signal })) {
        await stream.writeSSE({ id: event.id, event: event.type, data: JSON.stringify(await toData(deps, record.id, event)) })
      }
    })
  })
}

/** Whether the client has received everything that there will ever be. */
async function isAtEnd({ follower, graceOver }: EventNeeds, { id }: JobRecord, after: string | undefined): Promise<boolean> {
  const rest = follower.follow(id, { after, signal: graceOver })[Symbol.asyncIterator]()
  const { done } = await rest.next()
  await rest.return?.()
  return done === true
}

interface TellQueueOptions {
  queueMs: number
  signal: AbortSignal
  write: (data: string) => Promise<void>
}

/** Reports changes of the position in the queue and the time left, until the job or the stream ends. */
async function tellQueue(deps: EventNeeds, id: string, { queueMs, signal, write }: TellQueueOptions): Promise<void> {
  let last = ''
  try {
    for (;;) {
      await sleep(queueMs, undefined, { signal })
      const record = await deps.store.get(id)
      if (record === undefined || isEnded(record.status)) return
      const { position, etaSeconds } = await deps.estimator.estimate(record)
      const data = JSON.stringify({ queue_position: position, eta_seconds: etaSeconds })
      if (data !== last && !signal.aborted) await write(data)
      last = data
    }
  } catch {
    // The stream has ended, or Redis is down, which the stream itself notices.
  }
}

async function toData(deps: EventNeeds, id: string, { id: _entry, type: _type, ...data }: StreamedJobEvent): Promise<unknown> {
  if (_type !== 'done') return data
  const record = await deps.store.get(id)
  return record === undefined ? { id, ...data } : await toJob(deps, record)
}
