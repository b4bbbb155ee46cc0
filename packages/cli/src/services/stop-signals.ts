/**
 * Owns what Ctrl-C means to a script that runs services: the first signal asks for a clean shutdown, the second ends everything at once.
 *
 * Knows nothing about what is stopped.
 */

/** A terminal signals the whole process group and npm passes the signal on too, so one Ctrl-C may arrive several times within this time. */
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
