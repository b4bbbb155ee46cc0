/**
 * Follows the event stream of a job until its end. Uses fetch rather than EventSource, which cannot send an API key.
 *
 * Invariant: every event is handed on once, in order, over any number of lost connections. Runs in the browser.
 */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import type { Job } from '@easel/contract'
import { ApiError, request } from './api.ts'

export type FollowedEvent =
  | { type: 'status'; status: Job['status'] }
  | { type: 'progress'; step: number; total: number }
  | { type: 'preview'; step: number; image: number; data_url: string }
  | { type: 'queue'; queue_position: number | null; eta_seconds: number | null }
  | { type: 'done'; job: Job }

/** Milliseconds before a lost connection is made again. */
const reconnectMs = 1000

/** Ends after `done`, when nothing is left to come, or when the api says that the job is not there. */
export async function* followJob(id: string): AsyncGenerator<FollowedEvent> {
  let lastEventId = ''
  for (;;) {
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' }
      if (lastEventId !== '') headers['Last-Event-ID'] = lastEventId
      const response = await request(`v1/jobs/${id}/events`, { headers })
      if (response.status === 204 || response.body === null) return
      const messages = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream()).getReader()
      for (let read = await messages.read(); !read.done; read = await messages.read()) {
        const { id: eventId, event, data } = read.value
        if (eventId !== undefined && eventId !== '') lastEventId = eventId
        yield event === 'done' ? { type: 'done', job: JSON.parse(data) as Job } : ({ type: event, ...JSON.parse(data) } as FollowedEvent)
        if (event === 'done') return
      }
    } catch (error) {
      // Anything but an answer from the api is a lost connection.
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) return
    }
    await new Promise((resolve) => setTimeout(resolve, reconnectMs))
  }
}
