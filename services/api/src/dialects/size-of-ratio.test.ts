import { expect, test } from 'vitest'
import { tinyScenes } from '../../test/start-api.ts'
import { sizeOfRatio } from './size-of-ratio.ts'

const large = {
  defaults: { ...tinyScenes.defaults, width: 1024, height: 1024 },
  limits: { ...tinyScenes.limits, max_side: 3072, max_pixels: 2_359_296 },
}

test('a size has as many pixels as the default picture and the ratio that was asked for', () => {
  expect(sizeOfRatio('1:1', large)).toEqual({ width: 1024, height: 1024 })
  expect(sizeOfRatio('16:9', large)).toEqual({ width: 1360, height: 768 })
  expect(sizeOfRatio('9:16', large)).toEqual({ width: 768, height: 1360 })
  expect(sizeOfRatio('3:2', tinyScenes)).toEqual({ width: 160, height: 112 })
})

test('whatever the ratio and the model, the size is one that the model takes', () => {
  const models = [
    tinyScenes,
    large,
    { ...large, limits: { ...large.limits, max_pixels: 500_000 } },
    { ...tinyScenes, limits: { ...tinyScenes.limits, max_side: 100, max_pixels: 16_384 } },
  ]
  for (const model of models) {
    for (let width = 1; width < 100; width += 7) {
      for (let height = 1; height < 100; height += 7) {
        const size = sizeOfRatio(`${width}:${height}`, model)
        const { size_multiple: multiple, max_side: maxSide, max_pixels: maxPixels } = model.limits
        const fits = [size.width, size.height].every((side) => side >= multiple && side <= maxSide && side % multiple === 0)
        expect([width, height, size, fits && size.width * size.height <= maxPixels]).toEqual([width, height, size, true])
      }
    }
  }
})
