import { expect, test } from 'vitest'
import { toTileGrid } from '../src/tile-grid.ts'

const square = { width: 128, height: 128 }
const landscape = { width: 192, height: 128 }
const tall = { width: 128, height: 256 }

test.each([
  { count: 1, size: square, grid: { columns: 1, isFilled: true } },
  { count: 1, size: landscape, grid: { columns: 1, isFilled: false } },
  { count: 2, size: square, grid: { columns: 2, isFilled: false } },
  { count: 2, size: landscape, grid: { columns: 1, isFilled: false } },
  { count: 2, size: tall, grid: { columns: 2, isFilled: true } },
  { count: 3, size: tall, grid: { columns: 3, isFilled: false } },
  { count: 4, size: square, grid: { columns: 2, isFilled: true } },
  { count: 10, size: square, grid: { columns: 4, isFilled: false } },
])('the tiles of $count × ($size.width × $size.height) pixels are in $grid.columns columns', ({ count, size, grid }) => {
  expect(toTileGrid(count, size)).toEqual(grid)
})
