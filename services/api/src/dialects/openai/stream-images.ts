/** The stream of POST /v1/images/generations and /v1/images/edits: previews while a job runs, then each picture, or one error. */
import type { Context } from 'hono'
import { isEnded } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps, AppEnv } from '../../app-deps.ts'
import { sendEvents } from '../../events/send-events.ts'
import type { EventSink } from '../../events/send-events.ts'
import { toUnfinished } from '../../jobs/wait-for-end.ts'
import { toProblemError } from '../../middleware/problem.ts'
import { cancelAbandoned } from '../wait-for-result.ts'
import type { WaitForResultNeeds } from '../wait-for-result.ts'
import { toJobFailure, toOpenAiError } from './errors.ts'
import { readBase64 } from '../read-base64.ts'
import { toSize, toUnixTime, usage } from './to-images-response.ts'

type StreamNeeds = WaitForResultNeeds & Pick<AppDeps, 'storage'>

export interface StreamOptions {
  /** The most previews for each picture. */
  partialImages: number
  /** The prefix of event types. */
  kind: 'image_generation' | 'image_edit'
}

export function streamImages(deps: StreamNeeds, c: Context<AppEnv>, record: JobRecord, { partialImages, kind }: StreamOptions): Response {
  return sendEvents(deps, c, { jobId: record.id }, async (sink) => {
    const write = async (type: string, body: object): Promise<void> => {
      await sink.stream.writeSSE({ event: type, data: JSON.stringify({ type, ...body }) })
    }
    const common = { size: toSize(record), quality: 'auto', background: 'opaque' }
    try {
      await writePreviews(deps, { sink, id: record.id, partialImages }, async (partial) => {
        const created = toUnixTime(deps.now())
        await write(`${kind}.partial_image`, { ...partial, ...common, created_at: created, output_format: 'jpeg' })
      })
      if (sink.left.aborted) return await cancelAbandoned(deps, c, record.id)

      const ended = (await deps.store.get(record.id)) ?? record
      if (!isEnded(ended.status)) throw toUnfinished({ outcome: deps.graceOver.aborted ? 'stopping' : 'lost', record: ended })
      if (ended.status !== 'succeeded') return await write('error', { error: toJobFailure(ended.error) })
      for (const image of ended.output?.images ?? []) {
        const body = { b64_json: await readBase64(deps, image), ...common, output_format: record.input.output_format, usage }
        await write(`${kind}.completed`, { ...body, created_at: toUnixTime(ended.completedAt ?? ended.createdAt) })
      }
    } catch (error) {
      await write('error', { error: toOpenAiError(toProblemError(error, c)) })
    }
    return undefined
  })
}

interface Partial {
  /** A small JPEG. */
  b64_json: string
  partial_image_index: number
}

async function writePreviews(
  { follower }: Pick<AppDeps, 'follower'>,
  { sink, id, partialImages }: { sink: EventSink; id: string; partialImages: number },
  write: (partial: Partial) => Promise<void>,
): Promise<void> {
  const sent = new Map<number, number>()
  for await (const event of follower.follow(id, { signal: sink.signal })) {
    if (event.type !== 'preview') continue
    const index = sent.get(event.image) ?? 0
    if (index >= partialImages) continue
    sent.set(event.image, index + 1)
    await write({ b64_json: event.data_url.slice(event.data_url.indexOf(',') + 1), partial_image_index: index })
  }
}
