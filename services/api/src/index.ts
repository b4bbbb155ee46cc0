/** What TypeScript clients of the api may use: its routes as a type, for `hc` of hono/client. Nothing of it exists at run time. */
import type { jobRoutes } from './routes/jobs.ts'

export type JobRoutes = ReturnType<typeof jobRoutes>
