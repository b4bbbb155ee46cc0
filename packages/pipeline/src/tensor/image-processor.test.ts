import { expect, test } from 'vitest'
import { VaeImageProcessor } from './image-processor.ts'
import { Tensor } from './tensor.ts'

const processor = new VaeImageProcessor()

test('planes become interleaved pixels, one picture for each row', () => {
  // Two rows, two pixels each: red, then green, then blue plane.
  const sample = new Tensor(Float32Array.of(1, -1, -1, 1, 0, 0, -1, -1, -1, -1, 1, 1), [2, 3, 1, 2])
  expect(processor.postprocess(sample)).toEqual([
    { data: Uint8Array.of(255, 0, 128, 0, 255, 128), width: 2, height: 1 },
    { data: Uint8Array.of(0, 0, 255, 0, 0, 255), width: 2, height: 1 },
  ])
})

test('a value half way between two levels goes to the even one', () => {
  // 0.5 * 255 = 127.5 goes up to 128; the float32 nearest to 126.5 / 127.5 - 1 gives exactly 126.5, which goes down.
  const half = Math.fround(126.5 / 127.5 - 1)
  const level = Math.fround(Math.fround(Math.fround(half * 0.5) + 0.5) * 255)
  expect(level).toBe(126.5)
  const [image] = processor.postprocess(new Tensor(Float32Array.of(0, half, -half), [1, 3, 1, 1]))
  expect(image!.data).toEqual(Uint8Array.of(128, 126, 128))
})

test('values outside of [-1, 1] are clamped, infinite ones too', () => {
  const [image] = processor.postprocess(new Tensor(Float32Array.of(-7, 1.01, Infinity), [1, 3, 1, 1]))
  expect(image!.data).toEqual(Uint8Array.of(0, 255, 255))
})

test('a float16 sample is halved and shifted in float16, which can cost a level', () => {
  const value = 0.00785064697265625 // a float16 value whose half is below what float16 holds beside 0.5
  const data = Float32Array.of(value, value, value)
  const half = processor.postprocess(new Tensor(data, [1, 3, 1, 1], 'float16'))
  const single = processor.postprocess(new Tensor(data, [1, 3, 1, 1]))
  expect(half[0]!.data).toEqual(Uint8Array.of(128, 128, 128))
  expect(single[0]!.data).toEqual(Uint8Array.of(129, 129, 129))
})

test('a sample that is not a number is an error, not a black picture', () => {
  expect(() => processor.postprocess(new Tensor(Float32Array.of(0, Number.NaN, 0), [1, 3, 1, 1]))).toThrow(
    'Expected sample of numbers, got NaN in row 0',
  )
})

test.for([[[3, 1, 1]], [[1, 4, 1, 1]]])('a sample of dims %s is refused', ([dims]) => {
  const sample = new Tensor(new Float32Array(dims!.reduce((product, dim) => product * dim)), dims!)
  expect(() => processor.postprocess(sample)).toThrow(/Expected sample of dims \[batch, 3, height, width\]/)
})

test('an unknown output type is refused by name', () => {
  const sample = new Tensor(new Float32Array(3), [1, 3, 1, 1])
  // @ts-expect-error a caller without types
  expect(() => processor.postprocess(sample, { outputType: 'pil' })).toThrow("Expected outputType 'rgb8', got 'pil'")
})

test('all 256 levels survive the way to a tensor and back', () => {
  const data = Uint8Array.from({ length: 16 * 16 * 3 }, (_, i) => i % 256)
  const image = { data, width: 16, height: 16 }
  const tensor = processor.preprocess([image, image])
  expect(tensor.dims).toEqual([2, 3, 16, 16])
  expect(processor.postprocess(tensor)).toEqual([image, image])
})

test('a level becomes 2 * (level / 255) - 1, each operation in float32', () => {
  const tensor = processor.preprocess({ data: Uint8Array.of(0, 255, 77), width: 1, height: 1 })
  expect(tensor.data).toEqual(Float32Array.of(-1, 1, Math.fround(2 * Math.fround(77 / 255) - 1)))
})

test('images of different sizes, images of a wrong length and an empty list are refused', () => {
  const one = { data: new Uint8Array(3), width: 1, height: 1 }
  expect(() => processor.preprocess([one, { data: new Uint8Array(6), width: 2, height: 1 }])).toThrow(
    'Expected images of 1x1, got 2x1 at 1',
  )
  expect(() => processor.preprocess({ ...one, width: 2 })).toThrow('Expected 6 bytes for 2x1, got 3')
  expect(() => processor.preprocess([])).toThrow('Expected at least one image, got none')
})
