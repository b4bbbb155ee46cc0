/** Applies RESULT_TTL, which says how long ended jobs and their pictures are kept. Pure except for the clock. Runs in the api. */
import type { AppDeps } from './app-deps.ts'

/** Whether something that ended, or was made, at that instant (ms) is no longer kept. */
export function isPastRetention({ config, now }: Pick<AppDeps, 'config' | 'now'>, instantMs: number): boolean {
  return config.resultTtlSeconds > 0 && instantMs + config.resultTtlSeconds * 1000 < now()
}
