/** Name and value, or member and score, by turns, as Redis gives hashes and sorted sets inside other answers. */
export function toPairs(list: readonly string[]): [string, string][] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i] ?? '', list[2 * i + 1] ?? ''])
}
