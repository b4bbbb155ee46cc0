/**
 * What a run starts from: noise drawn from its seed, latents that it was given, or the latents of an earlier run that stopped.
 *
 * Invariant: the same generators give the same latents, on every machine. Knows nothing about prompts. Runs in the engine process.
 */
import { toFloat16Bits } from '../tensor/float16.ts'
import { randnTensor } from '../tensor/random-normal.ts'
import type { Generator } from '../tensor/random-normal.ts'
import { Tensor } from '../tensor/tensor.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import type { GenerateCall } from './generate-call.ts'
import { expectDims } from './generate-params.ts'
import type { Sd3Components } from './load-components.ts'

/** (rows, in_channels, height / 8, width / 8) */
export function latentDimsOf(call: GenerateCall, { transformer, vae }: Pick<Sd3Components, 'transformer' | 'vae'>): number[] {
  return [call.batch * call.numImagesPerPrompt, transformer.config.in_channels, call.height / vae.scale, call.width / vae.scale]
}

/** The given latents, or noise: `dims` in `dtype`. */
export function prepareLatents(
  given: Tensor | undefined,
  dims: readonly number[],
  generator: Generator | readonly Generator[],
  dtype: TensorDtype,
): Tensor {
  if (given === undefined) return randnTensor(dims, generator, dtype)
  expectDims('latents', given, dims)
  return toDtype(given, dtype)
}

/** Returns the same tensor when it already has that dtype. */
export function toDtype(tensor: Tensor, dtype: TensorDtype): Tensor {
  if (tensor.dtype === dtype) return tensor
  return new Tensor(dtype === 'float16' ? toFloat16Bits(tensor.data) : tensor.data, tensor.dims, dtype)
}
