/** Maps a record to the job object that clients see. */
import type { Image, Job, Receipt, StoredImage } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { toPublicUrl } from '../public-url.ts'
import { compareReplay } from './compare-replay.ts'

/** The lifetime of a presigned URL in a job object: long enough to fetch the picture, short enough to be worthless in a log. */
export const directUrlSeconds = 3600

export type ToJobNeeds = Pick<AppDeps, 'config' | 'estimator' | 'storage'>

export async function toJob(deps: ToJobNeeds, record: JobRecord): Promise<Job> {
  const { position, etaSeconds, workers } = await deps.estimator.estimate(record)
  const images = record.output === undefined ? undefined : await Promise.all(record.output.images.map((image) => toImage(deps, image)))
  return {
    id: record.id,
    status: record.status,
    created_at: toInstant(record.createdAt),
    started_at: record.startedAt === undefined ? null : toInstant(record.startedAt),
    completed_at: record.completedAt === undefined ? null : toInstant(record.completedAt),
    input: record.input,
    input_truncated: record.inputTruncated,
    progress: record.progress,
    queue_position: position,
    notice: workers === 0 ? `No worker serves ${record.input.model} now; the job waits until there is one.` : null,
    eta_seconds: etaSeconds,
    output: images === undefined ? null : { images },
    error: record.error ?? null,
    timings: record.timings ?? null,
    receipt: toReceipt(record),
    replay: compareReplay(record),
  }
}

async function toImage({ config, storage }: ToJobNeeds, { key, thumbnail_key: small, ...rest }: StoredImage): Promise<Image> {
  const publicUrl = toPublicUrl(config)
  const urls = { url: toImageUrl(publicUrl, key), thumbnail_url: small && toImageUrl(publicUrl, small) }
  const direct = await storage.url(key, { expiresInSeconds: directUrlSeconds })
  if (direct === undefined) return { ...urls, ...rest }
  return { ...urls, direct_url: direct.url, direct_url_expires_at: direct.expiresAt.toISOString(), ...rest }
}

function toReceipt({ input, output, provenance }: JobRecord): Receipt | null {
  if (output === undefined || provenance === undefined) return null
  return { ...provenance, parameters: input, images: output.images.map(({ seed, sha256 }) => ({ seed, sha256 })) }
}

/** The stable URL of a stored image; its key is its path. */
export function toImageUrl(publicUrl: string, key: string): string {
  return `${publicUrl}/${key}`
}

function toInstant(ms: number): string {
  return new Date(ms).toISOString()
}
