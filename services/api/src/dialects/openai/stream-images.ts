/** The stream of POST /v1/images/generations: previews while a job runs, each picture at its end, or one error. */
import type { Context } from 'hono'
import { isEnded } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps, AppEnv } from '../../app-deps.ts'
import { streamEvents } from '../stream-events.ts'
import { cancelAbandoned } from '../wait-for-result.ts'
import { toJobFailure } from './errors.ts'
import { readBase64, toSize, toUnixTime, usage } from './to-images-response.ts'

/** `partialImages`: most previews of each picture. */
export function streamImages(deps: AppDeps, c: Context<AppEnv>, record: JobRecord, partialImages: number): Response {
  const { id, input } = record
  const common = { size: toSize(record), quality: 'auto', background: 'opaque' }

  return streamEvents(deps, c, id, async (stream, signal) => {
    const write = async (type: string, body: object): Promise<void> => {
      await stream.writeSSE({ event: type, data: JSON.stringify({ type, ...body }) })
    }
    const sent = new Map<number, number>()
    for await (const event of deps.follower.follow(id, { signal })) {
      if (event.type !== 'preview') continue
      const index = sent.get(event.image) ?? 0
      if (index >= partialImages) continue
      sent.set(event.image, index + 1)
      const partial = { b64_json: event.data_url.slice(event.data_url.indexOf(',') + 1), partial_image_index: index }
      await write('image_generation.partial_image', {
        ...partial,
        ...common,
        created_at: toUnixTime(deps.now()),
        output_format: 'jpeg',
      })
    }
    if (signal.aborted) return deps.stopping.aborted ? undefined : await cancelAbandoned(deps, c, id)

    const ended = await deps.store.get(id)
    if (ended === undefined || !isEnded(ended.status) || ended.status !== 'succeeded') {
      return await write('error', { error: toJobFailure(ended?.error) })
    }
    const created = toUnixTime(ended.completedAt ?? ended.createdAt)
    for (const image of ended.output?.images ?? []) {
      const b64 = await readBase64(deps, image)
      const body = { b64_json: b64, ...common, created_at: created, output_format: input.output_format, usage }
      await write('image_generation.completed', body)
    }
  })
}
