/**
 * The job object that clients see, and the words for its states.
 *
 *   queued ──► running ──► succeeded
 *     │           ├──────► failed
 *     └───────────┴──────► canceled      (queued jobs may also fail: `expired`)
 *
 * An end state is claimed once and never changes.
 */
import { z } from 'zod'
import { jobErrorCodes } from './errors.ts'
import { receiptSchema, replaySchema } from './job-receipt.ts'
import { jobInputSchema } from './job-request.ts'

export const jobStatuses = ['queued', 'running', 'succeeded', 'failed', 'canceled'] as const
export type JobStatus = (typeof jobStatuses)[number]
export type EndStatus = 'succeeded' | 'failed' | 'canceled'

export function isEnded(status: JobStatus): status is EndStatus {
  return status === 'succeeded' || status === 'failed' || status === 'canceled'
}

export const jobErrorSchema = z.object({
  code: z.enum(jobErrorCodes),
  message: z.string(),
  retryable: z.boolean().describe('Whether the same job, submitted again, may succeed.'),
})
export type JobError = z.infer<typeof jobErrorSchema>

export const timingsSchema = z.object({
  queue_ms: z.number().describe('From creation to the first start.'),
  encode_ms: z.number().describe('Text encoding.'),
  denoise_ms: z.number().describe('All denoising steps, waiting for the device included.'),
  decode_ms: z.number().describe('Latents to pixels.'),
  upload_ms: z.number().describe('Image encoding and storing.'),
  total_ms: z.number().describe('From creation to the end.'),
})
export type Timings = z.infer<typeof timingsSchema>

/** A stored image, as the record describes it. */
export const storedImageSchema = z.object({
  key: z.string().describe('Object key in the store.'),
  thumbnail_key: z
    .string()
    .optional()
    .describe('Object key of the thumbnail, which for a small picture is its own key; absent in records of an Easel without thumbnails.'),
  width: z.int(),
  height: z.int(),
  seed: z.int(),
  sha256: z.string().describe('Hash of the file, in hex.'),
  content_type: z.string(),
})
export type StoredImage = z.infer<typeof storedImageSchema>

export const imageSchema = z.object({
  url: z.string().describe('Stable for the life of the result.'),
  thumbnail_url: z
    .string()
    .optional()
    .describe(
      'A WebP of the picture whose longer side has 384 pixels, stable like `url`; the same as `url` for a picture that is no larger. Absent for jobs made by an Easel without thumbnails.',
    ),
  direct_url: z.string().optional().describe('Presigned URL of the object store, new at each read; with S3 storage only.'),
  direct_url_expires_at: z.string().optional(),
  width: z.int(),
  height: z.int(),
  seed: z.int(),
  sha256: z.string().describe('Hash of the file, in hex.'),
  content_type: z.string(),
})
export type Image = z.infer<typeof imageSchema>

export const progressSchema = z.object({ step: z.int(), total: z.int() })
export type Progress = z.infer<typeof progressSchema>

export const jobSchema = z
  .object({
    id: z.string().describe('UUID version 7: sorts by creation time.'),
    status: z.enum(jobStatuses),
    created_at: z.string(),
    started_at: z.string().nullable(),
    completed_at: z.string().nullable(),
    input: jobInputSchema.describe('Every parameter, defaults and seed included.'),
    input_truncated: z
      .boolean()
      .describe('Whether the prompts in `input` were cut to 200 characters, because the job ended before it was started.'),
    progress: progressSchema,
    queue_position: z.int().nullable().describe('1 = next; null when not queued.'),
    notice: z.string().nullable().describe('Why the job may have to wait for long: no worker serves its model now. Null otherwise.'),
    eta_seconds: z.number().nullable().describe('Estimated seconds until the end, from measured step times; null when unknown or ended.'),
    output: z.object({ images: z.array(imageSchema) }).nullable(),
    error: jobErrorSchema.nullable(),
    timings: timingsSchema.nullable(),
    receipt: receiptSchema.nullable().describe('What made the pictures, for POST /v1/jobs/{id}/replay; null until the job has succeeded.'),
    replay: replaySchema.nullable().describe('How this job compares with the one it repeats; null when it repeats none.'),
  })
  .meta({ id: 'Job' })
export type Job = z.infer<typeof jobSchema>

export const jobListSchema = z
  .object({
    jobs: z.array(jobSchema).describe('Newest first.'),
    next: z.string().nullable().describe('`cursor` of the next page; null when this is the last.'),
  })
  .meta({ id: 'JobList' })
export type JobList = z.infer<typeof jobListSchema>
