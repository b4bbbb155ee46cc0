/** The events in a job's stream. The SSE id is the entry id of the Redis stream, so that any api replica can resume. */
import { z } from 'zod'
import { jobStatuses, progressSchema } from './job.ts'

export const jobEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('status'), status: z.enum(jobStatuses) }),
  z.object({ type: z.literal('progress'), ...progressSchema.shape }),
  z.object({
    type: z.literal('preview'),
    step: z.int(),
    image: z.int().describe('Which image of the job, from 0.'),
    data_url: z.string().describe('A small JPEG as a data: URL.'),
  }),
  z.object({ type: z.literal('done'), status: z.enum(['succeeded', 'failed', 'canceled']) }),
])
export type JobEvent = z.infer<typeof jobEventSchema>

/** At most this many progress events and record updates are written per second for one job. */
export const maxProgressPerSecond = 10
/** How many seconds a job's event stream outlives the job. */
export const eventsRetentionSeconds = 3600
