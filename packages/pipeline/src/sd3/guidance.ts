/**
 * The arithmetic between model calls: guidance and the scale of latents, rounded as torch does on a CPU.
 *
 * Invariant: every operator rounds on its own in the tensors' dtype; a plain number takes part as float32. (A fused multiply-add or
 * a multiplication by the reciprocal gives other pictures.) Pure; knows nothing about models.
 */
import { roundToFloat16 } from '../tensor/float16.ts'
import { Tensor } from '../tensor/tensor.ts'

type Round = (value: number) => number

/** float16 operators compute in float32 first. */
function roundOf(tensor: Tensor): Round {
  return tensor.dtype === 'float16' ? (value) => roundToFloat16(Math.fround(value)) : Math.fround
}

/** uncond + scale × (cond − uncond). A plain loop: every guided request runs it at every step, and a callback for each value is slow. */
export function guide(uncond: Tensor, cond: Tensor, scale: number): Tensor {
  const round = roundOf(cond)
  const factor = Math.fround(scale)
  const data = new Float32Array(cond.numel)
  for (let index = 0; index < data.length; index++) {
    const base = uncond.data[index] as number
    data[index] = round(base + round(factor * round((cond.data[index] as number) - base)))
  }
  return new Tensor(data, cond.dims, cond.dtype)
}

/** noise + (cond − skipped) × scale: away from what the model predicts without some of its layers. */
export function guideAwayFrom(noise: Tensor, cond: Tensor, skipped: Tensor, scale: number): Tensor {
  const round = roundOf(cond)
  const factor = Math.fround(scale)
  const data = noise.data.map((value, index) =>
    round(value + round(round((cond.data[index] as number) - (skipped.data[index] as number)) * factor)),
  )
  return new Tensor(data, noise.dims, noise.dtype)
}

/** latents / scale + shift: from the transformer's latents to the VAE's. */
export function unscaleLatents(latents: Tensor, scale: number, shift: number): Tensor {
  const round = roundOf(latents)
  const [divisor, offset] = [Math.fround(scale), Math.fround(shift)]
  return new Tensor(
    latents.data.map((value) => round(round(value / divisor) + offset)),
    latents.dims,
    latents.dtype,
  )
}

/** The shift of a dynamic schedule for an image of `imageSeqLen` patches: a line through two known sizes. */
export function calculateShift(imageSeqLen: number, baseSeqLen: number, maxSeqLen: number, baseShift: number, maxShift: number): number {
  const slope = (maxShift - baseShift) / (maxSeqLen - baseSeqLen)
  return imageSeqLen * slope + (baseShift - slope * baseSeqLen)
}
