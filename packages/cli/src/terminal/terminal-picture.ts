/**
 * Turns a picture into text, two pixels per character: an upper half block in the colour of one pixel, on a background in the colour of the
 * other, 24 bits each.
 *
 * Knows nothing about files or the terminal it is written to.
 */

export interface RgbImage {
  /** (height, width, 3) uint8, row after row. */
  data: Uint8Array
  width: number
  /** Pixels. An odd last row is left out. */
  height: number
}

const reset = '\u001B[0m'

/** One string per line: `height / 2` lines of `width` characters. */
export function toHalfBlocks({ data, width, height }: RgbImage): string[] {
  const colour = (x: number, y: number) => data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3).join(';')
  return Array.from({ length: Math.floor(height / 2) }, (_, line) => {
    const cells = Array.from({ length: width }, (_, x) => `\u001B[38;2;${colour(x, 2 * line)};48;2;${colour(x, 2 * line + 1)}m▀`)
    return cells.join('') + reset
  })
}

/** Puts pictures of the same height side by side, as many in a row as fit into `columns` characters, each `width` wide. */
export function toRows(pictures: string[][], width: number, columns: number): string[] {
  const perRow = Math.max(1, Math.floor((columns + 1) / (width + 1)))
  const rows: string[] = []
  for (let first = 0; first < pictures.length; first += perRow) {
    const row = pictures.slice(first, first + perRow)
    const lines = row[0]?.map((_, line) => row.map((picture) => picture[line]).join(' ')) ?? []
    rows.push(...lines, '')
  }
  return rows
}
