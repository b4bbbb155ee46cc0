/** Logs what a process learns about the clock that it shares with other processes. Knows nothing about how it learns that. */
import type { Logger } from 'pino'

export interface ClockNews {
  /** `skewMs`: above 0 if this machine is behind. */
  onSkew: (skewMs: number) => void
  onRefusal: (error: Error) => void
}

export function tellClock(logger: Logger): ClockNews {
  return {
    onSkew: (skewMs) => logger.warn({ skewMs }, "this machine's clock differs from that of Redis, which is used instead: run NTP"),
    onRefusal: (error) => logger.warn({ err: error }, "Redis does not tell the time; this machine's clock is used: allow the user +time"),
  }
}
