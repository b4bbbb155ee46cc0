/**
 * Owns what Ctrl-C means to a script that runs services: the first signal asks for an orderly end, the second ends at once.
 *
 * Knows nothing about what is stopped.
 */

/** A terminal signals the whole process group and npm passes the signal on as well: one Ctrl-C arrives several times within this time. */
const SAME_KEYSTROKE_MS = 500

export function onStopSignals(first: (signal: NodeJS.Signals) => void, second: (signal: NodeJS.Signals) => void): void {
  let firstAt: number | undefined
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (firstAt === undefined) {
        firstAt = performance.now()
        first(name)
      } else if (performance.now() - firstAt > SAME_KEYSTROKE_MS) {
        second(name)
      }
    })
  }
}
