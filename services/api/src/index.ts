/** What TypeScript clients of the api may use: its routes as a type, for `hc` from hono/client. Nothing here exists at run time. */
import type { jobRoutes } from './routes/jobs.ts'

export type JobRoutes = ReturnType<typeof jobRoutes>
