/**
 * A picture that a job begins with, or its mask, as the record keeps it. It is stored under `inputs/{sha256}` before the job is queued, so
 * that every run sees the same bytes. The worker turns its pixels into those of the job (orientation, colours, fit).
 */
import { z } from 'zod'

/** The accepted formats, by their content type. */
export const inputContentTypes = ['image/png', 'image/jpeg', 'image/webp', 'image/avif', 'image/gif'] as const

/** The shortest side that an input picture may have, in pixels. */
export const minInputSide = 16

export const inputPictureSchema = z
  .object({
    sha256: z.string().describe('Hash of the file as it was given, in hex.'),
    bytes: z.int().describe('Size of the file.'),
    width: z.int().describe('Pixels, after applying the orientation stored in the file.'),
    height: z.int().describe('Pixels, after applying the orientation stored in the file.'),
    content_type: z.enum(inputContentTypes),
  })
  .meta({ id: 'InputPicture' })
export type InputPicture = z.infer<typeof inputPictureSchema>

export const uploadSchema = z
  .object({
    id: z.string().describe('The fields `image` and `mask` take `upload:` followed by this id.'),
    ...inputPictureSchema.shape,
    expires_at: z
      .string()
      .nullable()
      .describe('When it is deleted, unless a job that uses it is kept for longer; null when it is kept for ever.'),
  })
  .meta({ id: 'Upload' })
export type Upload = z.infer<typeof uploadSchema>

export const inputFits = ['cover', 'contain', 'fill'] as const
export type InputFit = (typeof inputFits)[number]

/** The `strength` of a request that has a picture and gives none, as in diffusers. */
export const defaultStrength = 0.6

/**
 * How many steps really run. With an input picture that is only the last part of the schedule, as in diffusers, and at least one step.
 * `num_inference_steps` is the length of the whole schedule.
 */
export function countStepsRun({
  num_inference_steps: steps,
  image,
  strength = 1,
}: {
  num_inference_steps: number
  image?: unknown
  strength?: number | undefined
}): number {
  if (image === undefined) return steps
  const skipped = Math.trunc(Math.max(steps - Math.min(steps * strength, steps), 0))
  return Math.max(1, steps - skipped)
}
