/** Closed loops: a fixed number of works run at once, and each is followed immediately by the next. Knows nothing about what the work is. */

/** Calls `work` with the numbers from 0 to `count` - 1, at most `inFlight` at once. Returns the milliseconds until the last one has ended. */
export async function runInFlight(inFlight: number, count: number, work: (n: number) => Promise<unknown>): Promise<number> {
  let begun = 0
  const client = async (): Promise<void> => {
    while (begun < count) await work(begun++)
  }
  const startedAt = performance.now()
  await Promise.all(Array.from({ length: inFlight }, client))
  return performance.now() - startedAt
}

/**
 * Keeps `inFlight` works running and returns the milliseconds in which `count` of them end. The count begins after the first `inFlight`, which
 * begin together unlike all later ones, and stops before the loop runs out of work.
 */
export async function timeSteadily(inFlight: number, count: number, work: (n: number) => Promise<unknown>): Promise<number> {
  let begun = 0
  const endedAt: number[] = []
  const client = async (): Promise<void> => {
    while (endedAt.length < inFlight + count) {
      await work(begun++)
      endedAt.push(performance.now())
    }
  }
  await Promise.all(Array.from({ length: inFlight }, client))
  return (endedAt[inFlight + count - 1] as number) - (endedAt[inFlight - 1] as number)
}
