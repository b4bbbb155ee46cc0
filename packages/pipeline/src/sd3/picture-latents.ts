/**
 * A picture on its way into a run: encoded to latents by the VAE, mixed with noise at the start and, with a mask, restored after every step
 * wherever nothing is painted.
 *
 * Invariant: draws from the generator in diffusers' order, first a sample of the encoder's distribution and then the noise; every operator
 * rounds by itself in the tensors' dtype (pipeline_stable_diffusion_3_img2img.py and …_inpaint.py@58eb52c).
 * Knows nothing about prompts or schedules. Runs in the engine process.
 */
import { hash } from 'node:crypto'
import type { LatentDistribution } from '../models/autoencoder-kl.ts'
import type { CachedPicture } from '../runtime/picture-cache.ts'
import { roundToFloat16 } from '../tensor/float16.ts'
import type { Rgb8Image } from '../tensor/image-processor.ts'
import { randnTensor } from '../tensor/random-normal.ts'
import type { Generator } from '../tensor/random-normal.ts'
import { concatRows, rowsOf, splitRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import { scaleLatents } from './guidance.ts'
import type { StartPicture } from './generate-call.ts'
import { prepareLatents, toDtype } from './prepare-latents.ts'
import type { ResidentModel } from './resident-model.ts'

const f32 = Math.fround

export interface PictureRun {
  readonly generator: Generator | readonly Generator[]
  /** (rows, in_channels, height / 8, width / 8) of the run's latents. */
  readonly dims: readonly number[]
  readonly dtype: TensorDtype
  /** Noise to use in place of drawn noise. */
  readonly latents: Tensor | undefined
  readonly signal: AbortSignal | undefined
}

/** Both have the run's dims and dtype. */
export interface PictureLatents {
  readonly imageLatents: Tensor
  readonly noise: Tensor
}

/** Each picture that is not in the cache takes one turn on the device. */
export async function encodePicture(model: ResidentModel, start: StartPicture, run: PictureRun): Promise<PictureLatents> {
  const { generator, dims, dtype } = run
  const rows = dims[0] as number
  const encoded = start.areLatents ? concatRows(start.pictures as Tensor[]) : await sampleLatents(model, start, run)
  const imageLatents = tileRows(toDtype(encoded, dtype), rows)
  const noise = prepareLatents(run.latents, dims, generator, dtype)
  // diffusers also draws a sample of the masked picture. Only other kinds of model use it, but noise drawn at later steps comes after it.
  if (start.mask !== undefined && !start.areLatents) randnTensor(samplesDims(generator, start.pictures.length, dims), generator)
  return { imageLatents, noise }
}

/** The pictures' latents, scaled for the transformer: a row for each picture, or for each generator where there are several. */
async function sampleLatents(
  { runtime, vae, imageProcessor }: ResidentModel,
  { pictures }: StartPicture,
  { generator, dims, signal }: PictureRun,
): Promise<Tensor> {
  const [, , height, width] = dims as [number, number, number, number]
  const pixels = height * width * vae.scale ** 2
  const encoded: CachedPicture[] = []
  for (const picture of pictures) {
    // Several requests may wait for one encoding: it ends when all of them are aborted.
    const encode = (all: AbortSignal) => runtime.encodePicture(pixels, () => vae.encode(imageProcessor.preprocess(picture)), all)
    encoded.push(await runtime.pictureCache.get(toKey(picture), [vae, imageProcessor], false, encode, signal))
  }
  const samples = samplesDims(generator, pictures.length, dims)
  const [mean, logvar] = (['mean', 'logvar'] as const).map((part) =>
    tileRows(concatRows(encoded.map((row) => row[part])), samples[0] as number),
  ) as [Tensor, Tensor]
  const sampled = sample({ mean, logvar }, randnTensor(samples, generator, mean.dtype))
  return scaleLatents(sampled, vae.config.scaling_factor, vae.config.shift_factor)
}

/** The cache key: everything that a picture's latents depend on besides the VAE. */
function toKey(picture: Rgb8Image | Tensor): string {
  const dims = picture instanceof Tensor ? `float ${picture.dims.join('x')}` : `${picture.width}x${picture.height}`
  const { buffer, byteOffset, byteLength } = picture.data
  return `${dims} ${hash('sha256', new Uint8Array(buffer, byteOffset, byteLength), 'base64')}`
}

/** The dims of the noise for samples: one generator draws once for each picture, several draw a row each. */
function samplesDims(generator: Generator | readonly Generator[], pictures: number, [rows, ...tail]: readonly number[]): number[] {
  return [Array.isArray(generator) && generator.length > 1 ? (rows as number) : pictures, ...tail]
}

/** mean + exp(logvar / 2) × noise. */
function sample({ mean, logvar }: LatentDistribution, noise: Tensor): Tensor {
  const round = mean.dtype === 'float16' ? (value: number): number => roundToFloat16(f32(value)) : f32
  const data = mean.data.map((value, index) => {
    const clamped = Math.min(Math.max(logvar.data[index] as number, -30), 20)
    const deviation = round(Math.exp(round(0.5 * clamped)))
    return round(value + round(deviation * (noise.data[index] as number)))
  })
  return new Tensor(data, mean.dims, mean.dtype)
}

/** `latents` where the mask is one, `kept` where it is zero. All are (rows, channels, height, width); the mask has one channel. */
export function keepUnpainted(latents: Tensor, kept: Tensor, mask: Tensor): Tensor {
  const [rows, channels, height, width] = latents.dims as [number, number, number, number]
  const plane = height * width
  const masks = rowsOf(mask)
  const data = new Float32Array(latents.numel)
  for (let row = 0; row < rows; row++)
    for (let channel = 0; channel < channels; channel++) {
      const from = (row * channels + channel) * plane
      const maskFrom = (row % masks) * plane
      for (let pixel = 0; pixel < plane; pixel++) {
        const share = mask.data[maskFrom + pixel] as number
        // A sum instead of a selection, because torch's sum gives 0 where a selection would keep −0.
        data[from + pixel] = (1 - share) * (kept.data[from + pixel] as number) + share * (latents.data[from + pixel] as number)
      }
    }
  return new Tensor(data, latents.dims, latents.dtype)
}

/** Repeats all rows in turn up to the number of rows wanted: a, b, a, b. */
function tileRows(tensor: Tensor, rows: number): Tensor {
  const own = splitRows(tensor)
  if (own.length === rows) return tensor
  return concatRows(Array.from({ length: rows }, (_, row) => own[row % own.length] as Tensor))
}
