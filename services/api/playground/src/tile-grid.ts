/** Decides how the pictures of one job share the square of its card. Pure. */

export interface TileGrid {
  columns: number
  /** Whether a picture fills its tile completely. */
  isFilled: boolean
}

/** The grid in which `count` pictures of this shape are shown largest, each of them whole, in rows of equal height. */
export function toTileGrid(count: number, { width, height }: { width: number; height: number }): TileGrid {
  const rowsOf = (columns: number): number => Math.ceil(count / columns)
  const sizeIn = (columns: number): number => Math.min(1 / (columns * width), 1 / (rowsOf(columns) * height))
  const evenly = Math.ceil(Math.sqrt(count))
  const columns = Array.from({ length: count }, (_, n) => n + 1).reduce((best, each) => (sizeIn(each) > sizeIn(best) ? each : best), evenly)
  return { columns, isFilled: columns * width === rowsOf(columns) * height }
}
