/** What a caller has used of the service. */
import { z } from 'zod'

const countsSchema = z
  .object({
    gpu_seconds: z.number().describe('Time of the device that the jobs’ steps took: of each step the part of the job’s rows.'),
    jobs: z.int().describe('Jobs that ended, however.'),
    pictures: z.int(),
    bytes: z.int().describe('Bytes of pictures in the store.'),
  })
  .meta({ id: 'UsageCounts' })

export const usageSchema = z
  .object({
    owner: z.string().describe('Whose usage it is: the name of the API key, its hash, or `public`.'),
    weight: z.number().describe('Share of the device when several owners have jobs waiting.'),
    today: countsSchema.describe('What ended since midnight UTC.'),
    retained: countsSchema.describe('Of the jobs that can still be read.'),
    inputs: z
      .object({ pictures: z.int(), bytes: z.int().describe('Bytes of these pictures in the store.') })
      .describe('Pictures to begin with: uploads, and those of the jobs that can still be read, each counted once.'),
    queued: z.object({ gpu_seconds: z.number().describe('Estimated time of the device of the jobs that wait.') }),
  })
  .meta({ id: 'Usage' })
export type Usage = z.infer<typeof usageSchema>
