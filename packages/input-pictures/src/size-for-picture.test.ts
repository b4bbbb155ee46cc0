import { expect, test } from 'vitest'
import { sizeForPicture } from './size-for-picture.ts'

const rule = { multiple: 16, maxSide: 256, maxArea: 128 * 128 }

test.each([
  { what: 'keeps its size where that is small enough', picture: [96, 64], asked: {}, size: [96, 64] },
  { what: 'is scaled down to the area', picture: [2048, 1024], asked: {}, size: [176, 80] },
  { what: 'is never scaled up', picture: [33, 17], asked: {}, size: [32, 16] },
  { what: 'has sides of at least one multiple', picture: [4000, 20], asked: {}, size: [256, 16] },
  { what: 'follows a width by its ratio', picture: [100, 50], asked: { width: 192 }, size: [192, 96] },
  {
    what: 'follows a height by its ratio, and no further than the longest side',
    picture: [100, 20],
    asked: { height: 128 },
    size: [256, 128],
  },
  { what: 'gives way to both sides as they are', picture: [100, 20], asked: { width: 17, height: 999 }, size: [17, 999] },
  { what: 'has a whole side whatever the last bit of a division says', picture: [49, 147], asked: { width: 48 }, size: [48, 144] },
] as const)('a picture of $picture $what: $size', ({ picture: [width, height], asked, size }) => {
  expect(Object.values(sizeForPicture({ width, height }, asked, rule))).toEqual(size)
})
