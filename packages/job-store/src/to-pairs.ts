/** Pairs from a list that alternates name and value, or member and score, as Redis returns hashes and sorted sets inside other replies. */
export function toPairs(list: readonly string[]): [string, string][] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i] ?? '', list[2 * i + 1] ?? ''])
}
