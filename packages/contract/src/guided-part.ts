/**
 * What the steps of a picture cost on average, as a part of steps with guidance: without it each step has half the rows.
 * `interval`: the part of the run in which guidance is on, fractions from 0 to 1; default all of it.
 */
export function guidedPart(guidanceScale: number, [from, to]: readonly [number, number] = [0, 1]): number {
  return guidanceScale > 1 ? (1 + (to - from)) / 2 : 1 / 2
}
