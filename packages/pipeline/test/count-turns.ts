/** Counts the turns of the event loop. `now` returns their number so far; `stop` ends the counting, which keeps the process busy. */
export function countTurns(): { now(): number; stop(): void } {
  let turn = 0
  let counting = true
  const count = (): void => {
    turn++
    if (counting) setImmediate(count)
  }
  setImmediate(count)
  return {
    now: () => turn,
    stop: () => {
      counting = false
    },
  }
}
