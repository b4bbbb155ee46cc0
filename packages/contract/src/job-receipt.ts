/**
 * Everything needed to make a job's pictures again: parts, parameters and the hash of every file. The worker records what the job was made
 * with (`provenance`) when it succeeds; the rest of the receipt is the job's input and output.
 */
import { z } from 'zod'
import { jobInputSchema } from './job-request.ts'

export const imageMetadataLevels = ['full', 'no-prompts', 'none'] as const
export type ImageMetadataLevel = (typeof imageMetadataLevels)[number]

/** What the files of a job were made with, apart from its parameters. */
export const provenanceSchema = z.object({
  model: z.object({
    id: z.string().describe('Name of the model.'),
    content_hash: z.string().describe('sha256 over the model’s files, in hex.'),
  }),
  runtime: z.string().describe('Name and version of the inference runtime.'),
  provider: z.string().describe('Execution provider the graphs ran on.'),
  graphs: z
    .record(z.string(), z.string())
    .optional()
    .describe(
      'The graph of each part of the model: `onnx` for an exported one, else Easel’s own with the precision it computed in and how its weights were held, as in `easel float32 packed`.',
    ),
  loras: z
    .array(z.object({ id: z.string(), sha256: z.string().describe('Hash of its file, in hex.') }))
    .optional()
    .describe('LoRAs that were added to the model; how much of each is in the parameters. Absent: none.'),
  platform: z.string().describe('Operating system and processor architecture of the worker, such as `linux-x64`.'),
  processor: z
    .string()
    .describe('Model of the worker’s processor; kernels differ between processors, and so do the last bits of their results.'),
  scheduler: z.object({
    class: z.string().describe('Class of the scheduler, by its name in diffusers.'),
    config: z.record(z.string(), z.unknown()).describe('Its complete configuration.'),
  }),
  encoder: z.object({
    name: z.string().describe('Name and version of the library that wrote the files.'),
    png_compression_level: z.int().describe('zlib level of PNG files, 0 to 9.'),
    metadata: z.enum(imageMetadataLevels).describe('What the files say about themselves: IMAGE_METADATA of the worker.'),
  }),
})
export type Provenance = z.infer<typeof provenanceSchema>

export const receiptSchema = z
  .object({
    ...provenanceSchema.shape,
    parameters: jobInputSchema.describe('Every parameter as it was used, with all defaults filled in.'),
    images: z.array(
      z.object({
        seed: z.int().describe('The seed that makes this picture alone.'),
        sha256: z.string().describe('Hash of the file, in hex.'),
      }),
    ),
  })
  .meta({ id: 'Receipt' })
export type Receipt = z.infer<typeof receiptSchema>

/** What a new job remembers about the job that it repeats, which it may outlive. */
export interface ReplayOf {
  id: string
  provenance: Provenance
  /** The hashes of the files in order, in hex. */
  sha256: readonly string[]
}

export const replaySchema = z
  .object({
    of: z.string().describe('Id of the job that is repeated.'),
    identical: z
      .boolean()
      .nullable()
      .describe('Whether every file has the same bytes as in that job; null while this job has not succeeded.'),
    note: z.string().nullable().describe('What differs in how the two were made, such as model files or runtime; null when nothing does.'),
  })
  .meta({ id: 'Replay' })
export type Replay = z.infer<typeof replaySchema>
