/**
 * Follows the event stream of a job to its end, over any number of lost connections.
 *
 * Invariant: every event of the job is passed on once and in order. After a lost connection the client reconnects with the id of the last event. The
 * queue position, which has no id, is reported when it changes and is not repeated.
 */
import type { Job, JobEvent } from '@easel/contract'
import { hasEnded, type EndedJob } from './ended-job.ts'
import { EaselError } from './errors.ts'
import { parseEventStream } from './parse-event-stream.ts'
import type { RequestOptions, RequestSender } from './request-sender.ts'
import { retryDelayMs } from './retry-delay.ts'
import { sleep } from './sleep.ts'

/** Something that happened to a job. The last one is `done`. */
export type FollowedEvent =
  | Exclude<JobEvent, { type: 'done' }>
  | {
      type: 'queue'
      /** 1 for the next job; null when it is not queued. */
      queue_position: number | null
      /** The estimated seconds until the end; null when unknown. */
      eta_seconds: number | null
    }
  | { type: 'done'; job: EndedJob }

/** The seconds to wait before reconnecting when the stream has not said how many. */
const usualRetrySeconds = 1

/** `getJob`: reads the job, in case the stream no longer has it. */
export async function* followJob(
  sender: RequestSender,
  id: string,
  { getJob, ...options }: RequestOptions & { getJob: () => Promise<Job> },
): AsyncGenerator<FollowedEvent, void, undefined> {
  let lastEventId = ''
  let failures = 0
  let retrySeconds = usualRetrySeconds
  for (;;) {
    let pauseSeconds: number | undefined = retrySeconds
    try {
      const headers = { Accept: 'text/event-stream', ...(lastEventId !== '' && { 'Last-Event-ID': lastEventId }) }
      const answer = await sender.open({ path: `v1/jobs/${encodeURIComponent(id)}/events`, headers }, options)
      try {
        const { body, status } = answer.response
        if (status === 204 || body === null) {
          const job = await getJob()
          if (hasEnded(job)) yield { type: 'done', job }
          return
        }
        const onBytes = (): void => {
          failures = 0
          answer.renew()
        }
        for await (const message of parseEventStream(body, { onBytes, onRetry: (ms) => (retrySeconds = ms / 1000) })) {
          if (message.id !== '') lastEventId = message.id
          if (message.event === 'done') {
            yield { type: 'done', job: await toEndedJob(message.data, getJob) }
            return
          }
          yield { type: message.event, ...JSON.parse(message.data) } as FollowedEvent
        }
      } catch (error) {
        throw answer.toReadError(error)
      } finally {
        answer.close()
      }
    } catch (error) {
      failures++
      if (!(error instanceof EaselError)) throw error
      error.attempts = failures
      if (!error.retryable || failures > sender.retriesOf(options)) throw error
      pauseSeconds = error.retryAfterSeconds
    }
    await sleep(retryDelayMs(Math.max(1, failures), pauseSeconds), options.signal)
  }
}

/** The stream of a job that was deleted meanwhile ends without the job. Asking for the job then gives the right error. */
async function toEndedJob(data: string, getJob: () => Promise<Job>): Promise<EndedJob> {
  const job = JSON.parse(data) as Job
  return (job.input === undefined ? await getJob() : job) as EndedJob
}
