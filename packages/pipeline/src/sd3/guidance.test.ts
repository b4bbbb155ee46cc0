import { describe, expect, it } from 'vitest'
import { Tensor } from '../tensor/tensor.ts'
import { calculateShift, guide, guideAwayFrom, scaleLatents, unscaleLatents } from './guidance.ts'

const f32 = (...values: number[]) => new Tensor(Float32Array.from(values), [values.length])
const f16 = (...values: number[]) => new Tensor(Float32Array.from(values, Math.f16round), [values.length], 'float16')

/** Reads float16 values from base64. */
const read = (base64: string): Tensor => {
  const bytes = Buffer.from(base64, 'base64')
  const values = Float32Array.from({ length: bytes.length / 2 }, (_, i) =>
    new DataView(bytes.buffer).getFloat16(bytes.byteOffset + i * 2, true),
  )
  return new Tensor(values, [values.length], 'float16')
}

describe('guidance', () => {
  it('rounds each operator on its own in float32', () => {
    // cond − uncond = 0.1f − 0.3f, times 7, plus 0.3f: a fused or a double computation differs by one unit.
    const [u, c] = [Math.fround(0.3), Math.fround(0.1)]
    const expected = Math.fround(u + Math.fround(7 * Math.fround(c - u)))
    expect(guide(f32(0.3), f32(0.1), 7).data[0]).toBe(expected)
    expect(guide(f32(0.3, 5), f32(0.1, 5), 1).dims).toEqual([2])
  })

  it('rounds the difference, the product and the sum of many values, each on its own', () => {
    const wave = (factor: number) => Array.from({ length: 4096 }, (_, i) => Math.fround(Math.sin(i * factor) * 3))
    const [u, c] = [wave(0.7), wave(1.3)]
    const { data } = guide(f32(...u), f32(...c), 4.7)
    const scale = Math.fround(4.7)
    const each = u.map((base, i) => Math.fround(base + Math.fround(scale * Math.fround(c[i]! - base))))
    expect([...data]).toEqual(each)
    // If any one of the roundings is left out, some value differs.
    expect(u.map((base, i) => Math.fround(base + Math.fround(scale * (c[i]! - base))))).not.toEqual(each)
    expect(u.map((base, i) => Math.fround(base + scale * Math.fround(c[i]! - base)))).not.toEqual(each)
  })

  it('rounds each operator on its own in float16', () => {
    const [u, c] = [Math.f16round(0.3), Math.f16round(0.1)]
    const result = guide(f16(0.3), f16(0.1), 4.5)
    expect(result.data[0]).toBe(Math.f16round(u + Math.f16round(4.5 * Math.f16round(c - u))))
    expect(result.dtype).toBe('float16')
  })

  it('steers away from the prediction with skipped layers', () => {
    expect([...guideAwayFrom(f32(1, 1), f32(3, 2), f32(2, 2), 2.5).data]).toEqual([3.5, 1])
  })
})

it('latents are divided by the scale instead of multiplied by its reciprocal', () => {
  const values = Array.from({ length: 1000 }, (_, i) => Math.fround(Math.sin(i) * 3))
  const { data } = unscaleLatents(f32(...values), 1.5305, 0.0609)
  const [scale, shift] = [Math.fround(1.5305), Math.fround(0.0609)]
  expect([...data]).toEqual(values.map((value) => Math.fround(Math.fround(value / scale) + shift)))
  const byReciprocal = values.map((value) => Math.fround(Math.fround(value * Math.fround(1 / scale)) + shift))
  expect([...data]).not.toEqual(byReciprocal)
})

it('float16 latents are divided in float32 and moved by a shift rounded to float16, with the bits of torch on a CPU', () => {
  // torch 2.13: x = torch.randn(65536, generator=torch.Generator().manual_seed(3)).half(); (x, x / 1.5305 + 0.0609), 64 values of each.
  const latents = read(
    '6KzCNUK6lCxSOZe0ez5jvp2q5bT0Mx+zTjuKMpg4qTYvNHM7Hribvi88LThXscoqgziDQHo/yLz8O1k330CzsJ63sLSStZQ1vyhVrN028rpXtIgwJTB0Oau7FyxFOY46SbdtQAi2mbAvOafAEz3ys6o7KL2YvqI6s7o9uGs9gz0=',
  )
  const expected = read(
    'jCG8NDS35C7uNwywejzbu/QmcrAlM2itQzk5Mvo2VDVrM1s5aLQTvPU5bjYoqh4u3jYjPiE9wrm1OcY1nD58qAC0LbBUsZ40cy1GJHY1Dbhyr+kwqDANOIa4ki7cN8U4k7MHPu+xOKjAN9a9Hjt8rn85QLoRvNI4yLeQtJE7sTs=',
  )
  const unscaled = unscaleLatents(latents, 1.5305, 0.0609)
  expect([unscaled.dtype, unscaled.dims, unscaled.data]).toEqual(['float16', expected.dims, expected.data])
})

it('float16 latents of the VAE are moved and multiplied with the bits of torch on a CPU, as float32 ones are', () => {
  // torch 2.15: (x - 0.0609) * 1.5305 of 64 values of a sampled distribution.
  const latents = read(
    'OD8iONm+yr4SQOfMgCkMxCc2KLRtvdm5sKtNt3O4NbqYQdo8XbWyuwOw2LiuOjSxXbhUOulBO8AePRw4WTTCPgq01LnoPmowpD8sMYw7F8E0tAtAbTgGvku+qLJHuJG8iTpGOSw1cTvAK1QxiLz6vXy/BzuWQOKx9TvjOQ49ajw=',
  )
  const expected = read(
    'V0GUOW3BYcELQofPCKdKxu0327dWwNm87bFVuo+7IL0wRA4/2bhCvpC0Fby9PHm1bbt4PG5EqcJ2P4s5KjX8QK231bwaQYsvqUHvMGc9+sPttwFCBzrLwADBl7ZLu1y/oTxTO2w2Uj2XkCwxTr/CwOrBAT3VQv61tz0iPF4/Yz4=',
  )
  expect(scaleLatents(latents, 1.5305, 0.0609)).toEqual(expected)
  const [scale, shift] = [Math.fround(1.5305), Math.fround(0.0609)]
  const values = Array.from({ length: 1000 }, (_, i) => Math.fround(Math.sin(i) * 3))
  expect([...scaleLatents(f32(...values), 1.5305, 0.0609).data]).toEqual(
    values.map((value) => Math.fround(Math.fround(value - shift) * scale)),
  )
})

it('the shift of a dynamic schedule is linear between its two sizes', () => {
  expect(calculateShift(256, 256, 4096, 0.5, 1.15)).toBeCloseTo(0.5, 12)
  expect(calculateShift(4096, 256, 4096, 0.5, 1.15)).toBeCloseTo(1.15, 12)
})
