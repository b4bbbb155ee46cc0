import { expect, test } from 'vitest'
import { toHalfBlocks, toRows } from './terminal-picture.ts'

test('a column of two pixels becomes one half block with the upper colour in front of the lower', () => {
  const lines = toHalfBlocks({ data: Uint8Array.of(255, 0, 1, 2, 3, 4), width: 1, height: 2 })
  expect(lines).toEqual(['\u001B[38;2;255;0;1;48;2;2;3;4m▀\u001B[0m'])
})

test('every line is as wide as the picture, and an odd last row is left out', () => {
  const lines = toHalfBlocks({ data: new Uint8Array(4 * 5 * 3), width: 4, height: 5 })
  expect(lines.map((line) => line.split('▀').length - 1)).toEqual([4, 4])
})

test('pictures stand side by side as long as they fit into the terminal', () => {
  const pictures = [
    ['a1', 'a2'],
    ['b1', 'b2'],
    ['c1', 'c2'],
  ]
  expect(toRows(pictures, 2, 5)).toEqual(['a1 b1', 'a2 b2', '', 'c1', 'c2', ''])
  expect(toRows(pictures, 2, 1)).toHaveLength(9)
})
