/**
 * Defines what Ctrl-C does to a script that runs services: the first signal asks for a clean shutdown, the second ends everything at once.
 *
 * Knows nothing about what is stopped.
 */

/** A terminal signals the whole process group and npm passes the signal on too, so one Ctrl-C may arrive several times within this period. */
const sameKeystrokeMs = 500

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export type StopSignal = (typeof stopSignals)[number]

/** `except`: a signal that means something else here. */
export function onStopSignals(first: (signal: StopSignal) => void, second: (signal: StopSignal) => void, except?: StopSignal): void {
  let firstAt: number | undefined
  for (const name of stopSignals) {
    if (name === except) continue
    process.on(name, () => {
      if (firstAt === undefined) {
        firstAt = performance.now()
        first(name)
      } else if (performance.now() - firstAt > sameKeystrokeMs) {
        second(name)
      }
    })
  }
}
