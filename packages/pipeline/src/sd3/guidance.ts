/**
 * The arithmetic between model calls: guidance and the scaling of latents, rounded as torch rounds on a CPU.
 *
 * Invariant: every operator rounds by itself in the tensors' dtype. A plain number is float32, except as the second term of a float16 sum,
 * where it is float16. (A fused multiply-add or a multiplication by the reciprocal gives other pictures.) Pure; knows nothing about models.
 */
import { divideAndAddFloat16, mixFloat16, roundToFloat16 } from '../tensor/float16.ts'
import { Tensor } from '../tensor/tensor.ts'

const f32 = Math.fround

/** uncond + scale × (cond − uncond). A plain loop, because a callback for each value is slow. */
export function guide(uncond: Tensor, cond: Tensor, scale: number): Tensor {
  const factor = f32(scale)
  if (uncond.dtype === 'float16') return new Tensor(mixFloat16(uncond.bits, cond.bits, factor), uncond.dims, 'float16')
  const values = new Float32Array(uncond.numel)
  const [bases, others] = [uncond.data, cond.data]
  for (let index = 0; index < values.length; index++) {
    const base = bases[index] as number
    values[index] = f32(base + f32(factor * f32((others[index] as number) - base)))
  }
  return new Tensor(values, uncond.dims)
}

/** noise + (cond − skipped) × scale: away from what the model predicts without some of its layers. */
export function guideAwayFrom(noise: Tensor, cond: Tensor, skipped: Tensor, scale: number): Tensor {
  const round = cond.dtype === 'float16' ? (value: number): number => roundToFloat16(f32(value)) : f32
  const factor = f32(scale)
  const data = noise.data.map((value, index) =>
    round(value + round(round((cond.data[index] as number) - (skipped.data[index] as number)) * factor)),
  )
  return new Tensor(data, noise.dims, noise.dtype)
}

/** latents / scale + shift: from the transformer's latents to the VAE's. */
export function unscaleLatents(latents: Tensor, scale: number, shift: number): Tensor {
  const { dims, dtype } = latents
  const divisor = f32(scale)
  if (dtype === 'float16') return new Tensor(divideAndAddFloat16(latents.bits, divisor, roundToFloat16(shift)), dims, dtype)
  const offset = f32(shift)
  return new Tensor(
    latents.data.map((value) => f32(f32(value / divisor) + offset)),
    dims,
  )
}

/** (latents − shift) × scale: from the VAE's latents to the transformer's. */
export function scaleLatents(latents: Tensor, scale: number, shift: number): Tensor {
  const { data, dims, dtype } = latents
  const isHalf = dtype === 'float16'
  const round = isHalf ? (value: number): number => roundToFloat16(f32(value)) : f32
  const [offset, factor] = [isHalf ? roundToFloat16(shift) : f32(shift), f32(scale)]
  return new Tensor(
    data.map((value) => round(round(value - offset) * factor)),
    dims,
    dtype,
  )
}

/** The shift of a dynamic schedule for an image of `imageSeqLen` patches: a line through two known sizes. */
export function calculateShift(imageSeqLen: number, baseSeqLen: number, maxSeqLen: number, baseShift: number, maxShift: number): number {
  const slope = (maxShift - baseShift) / (maxSeqLen - baseSeqLen)
  return imageSeqLen * slope + (baseShift - slope * baseSeqLen)
}
