/**
 * Small pictures of unfinished latents without the VAE: each RGB value is a weighted sum of the latent channels at its place.
 *
 * The weights come with the model (`preview_projection.json`). Otherwise they are fitted for the loaded model, by least squares over the pictures
 * that it has drawn and the latents they were decoded from.
 * Invariant: nothing here changes a call. Runs in the engine process.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { readModelJson } from '../models/model-file.ts'
import type { GenerateParams } from '../sd3/generate-params.ts'
import type { GenerateResult } from '../sd3/generate-result.ts'
import type { StableDiffusion3Pipeline } from '../sd3/pipeline.ts'
import type { Rgb8Image } from '../tensor/image-processor.ts'
import type { Tensor } from '../tensor/tensor.ts'

/** For each of R, G and B: one weight per channel, then the constant. The sums are values from 0 to 255. */
export type PreviewProjection = readonly (readonly number[])[]

export interface PreviewImage {
  /** Index of the picture in the call, from 0. */
  readonly index: number
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
  /** width × height × 3 bytes. */
  readonly rgb: Uint8Array
}

export const previewProjectionFile = 'preview_projection.json'

/** The weights that come with a model of this many latent channels; undefined when there are none. */
export async function readPreviewProjection(folder: string, channels: number): Promise<PreviewProjection | undefined> {
  const path = join(folder, previewProjectionFile)
  if (!existsSync(path)) return undefined
  return await readModelJson(path, z.array(z.array(z.number()).length(channels + 1)).length(3))
}

/** Scenes that differ in colour, so that all channels vary in the fit. */
const scenes = ['a red flower in a green field', 'a blue sea and a white sky', 'a black night, a yellow moon', 'a portrait photograph']
/** Enough steps for the colours; details do not matter. */
const steps = 8
/** In latent pixels: small, because the decoder works the same at every size. */
const side = 16

/** Fits the weights by least squares to the pictures added so far. */
export class PreviewFit {
  /** How many pictures have been added. */
  pictures = 0
  /** The normal equations: (channels + 1, channels + 1) and (channels + 1, 3). */
  readonly gram: readonly Float64Array[]
  readonly moments: readonly Float64Array[]

  constructor(channels: number) {
    this.gram = Array.from({ length: channels + 1 }, () => new Float64Array(channels + 1))
    this.moments = Array.from({ length: channels + 1 }, () => new Float64Array(3))
    // A little ridge regularisation: channels that never vary get no weight instead of an arbitrary one.
    this.gram.forEach((row, i) => (row[i] = 1e-3))
  }

  /** `latents`: (rows, channels, h, w), as the steps leave them; `images`: what each row was decoded to. */
  add(latents: Tensor, images: readonly Rgb8Image[]): void {
    const { gram, moments } = this
    const { data } = latents
    const [, channels, height, width] = latents.dims as [number, number, number, number]
    const plane = height * width
    for (const [row, image] of images.entries()) {
      const colours = shrink(image, image.width / width)
      for (let at = 0; at < plane; at++) {
        // The channels of one row at one place, then 1.
        const terms = Array.from({ length: channels }, (_, channel) => data[(row * channels + channel) * plane + at]!)
        terms.push(1)
        for (let i = 0; i < terms.length; i++) {
          for (let j = 0; j < terms.length; j++) gram[i]![j]! += terms[i]! * terms[j]!
          for (let colour = 0; colour < 3; colour++) moments[i]![colour]! += terms[i]! * colours[at * 3 + colour]!
        }
      }
      this.pictures++
    }
  }

  get projection(): PreviewProjection {
    return [0, 1, 2].map((colour) =>
      solve(
        this.gram,
        this.moments.map((row) => row[colour]!),
      ),
    )
  }
}

type ProjectionSource = Pick<StableDiffusion3Pipeline, 'vae' | 'decodeLatents'> & {
  generate(params: GenerateParams): Promise<GenerateResult>
}

/** Draws a few small pictures for the fit, which takes a real model on a CPU minutes. */
export async function fitPreviewProjection(source: ProjectionSource): Promise<PreviewProjection> {
  const pixels = side * source.vae.scale
  const request = { width: pixels, height: pixels, numInferenceSteps: steps, seed: 0, outputType: 'latent' } as const
  const { latents } = await source.generate({ ...request, prompt: scenes })
  if (latents === undefined) throw new Error('Expected latents, got none')
  const fit = new PreviewFit(latents.dims[1] as number)
  fit.add(latents, await source.decodeLatents(latents))
  return fit.projection
}

/** One small picture for each row of latents (rows, channels, h, w), h × w pixels. Plain loops, because every step waits for it. */
export function projectPreview(projection: PreviewProjection, { data, dims }: Tensor): PreviewImage[] {
  const [rows, channels, height, width] = dims as [number, number, number, number]
  const plane = height * width
  return Array.from({ length: rows }, (_, index) => {
    // This array rounds and clamps what is written to it.
    const rgb = new Uint8ClampedArray(plane * 3)
    for (const [colour, weights] of projection.entries()) {
      const values = new Float64Array(plane).fill(weights[channels]!)
      for (let channel = 0; channel < channels; channel++) {
        const weight = weights[channel]!
        const from = (index * channels + channel) * plane
        for (let at = 0; at < plane; at++) values[at]! += weight * data[from + at]!
      }
      for (let at = 0; at < plane; at++) rgb[at * 3 + colour] = values[at]!
    }
    return { index, width, height, rgb: new Uint8Array(rgb.buffer) }
  })
}

/** The mean colour of every block of side `scale`: RGB, (width / scale)² of them. */
function shrink({ data, width, height }: Rgb8Image, scale: number): Float64Array {
  const means = new Float64Array((width / scale) * (height / scale) * 3)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const block = Math.floor(y / scale) * (width / scale) + Math.floor(x / scale)
      for (let colour = 0; colour < 3; colour++) means[block * 3 + colour]! += data[(y * width + x) * 3 + colour]! / scale ** 2
    }
  }
  return means
}

/** Solves A x = b for a symmetric positive A, by Gaussian elimination with pivoting. Leaves its arguments unchanged. */
function solve(a: readonly Float64Array[], b: readonly number[]): number[] {
  const rows = a.map((row, i) => [...row, b[i]!])
  const n = rows.length
  for (let i = 0; i < n; i++) {
    let pivot = i
    for (let k = i + 1; k < n; k++) if (Math.abs(rows[k]![i]!) > Math.abs(rows[pivot]![i]!)) pivot = k
    ;[rows[i], rows[pivot]] = [rows[pivot]!, rows[i]!]
    for (let k = 0; k < n; k++) {
      if (k === i) continue
      const factor = rows[k]![i]! / rows[i]![i]!
      for (let j = i; j <= n; j++) rows[k]![j]! -= factor * rows[i]![j]!
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!)
}
