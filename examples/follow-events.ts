/** Follows a job by its event stream: progress, previews, the end. After a lost connection it continues where it stopped. */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import type { Job } from '@easel/contract'

const url = process.env['EASEL_URL'] ?? 'http://localhost:8500'

const submitted = await fetch(`${url}/v1/jobs`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ prompt: 'a purple flower in a meadow', seed: 3, preview_every: 4 }),
})
if (!submitted.ok) throw new Error(`Expected a job, got ${submitted.status}: ${await submitted.text()}`)
const { id } = (await submitted.json()) as Job

let lastEventId = ''
let job: Job | undefined
while (job === undefined) {
  const headers: Record<string, string> = lastEventId === '' ? {} : { 'last-event-id': lastEventId }
  const response = await fetch(`${url}/v1/jobs/${id}/events`, { headers })
  if (!response.ok || response.body === null) throw new Error(`Expected events, got ${response.status}`)
  for await (const message of response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream())) {
    lastEventId = message.id ?? lastEventId
    if (message.event === 'progress') {
      const { step, total } = JSON.parse(message.data) as { step: number; total: number }
      console.log(`step ${step} of ${total}`)
    }
    if (message.event === 'preview') {
      // A small JPEG as a data: URL, which can be the src of an <img>.
      const { step, data_url: dataUrl } = JSON.parse(message.data) as { step: number; data_url: string }
      console.log(`preview of step ${step}: ${dataUrl.slice(0, 40)}…`)
    }
    if (message.event === 'done') job = JSON.parse(message.data) as Job
  }
}
console.log(job.output?.images[0]?.url ?? job.error?.message)
