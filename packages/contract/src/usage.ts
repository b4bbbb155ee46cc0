/** What a caller has used of the service. */
import { z } from 'zod'

const countsSchema = z
  .object({
    gpu_seconds: z.number().describe('Device time that the jobs’ steps took; each step is divided among jobs by their rows.'),
    jobs: z.int().describe('Jobs that ended, in whatever way.'),
    pictures: z.int(),
    bytes: z.int().describe('Bytes of pictures in the store.'),
  })
  .meta({ id: 'UsageCounts' })

export const usageSchema = z
  .object({
    owner: z.string().describe('Whose usage it is: the name of the API key, its hash, or `public`.'),
    weight: z.number().describe('Relative share of the device when several owners have jobs waiting.'),
    today: countsSchema.describe('Jobs that ended since midnight UTC.'),
    retained: countsSchema.describe('Jobs that can still be read.'),
    inputs: z
      .object({ pictures: z.int(), bytes: z.int().describe('Bytes of these pictures in the store.') })
      .describe('Input pictures: uploads, and those of the jobs that can still be read, each counted once.'),
    queued: z.object({ gpu_seconds: z.number().describe('Estimated device time of the jobs that wait.') }),
  })
  .meta({ id: 'Usage' })
export type Usage = z.infer<typeof usageSchema>
