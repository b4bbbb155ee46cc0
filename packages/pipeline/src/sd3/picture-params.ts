/**
 * The parameters of a call that starts from a picture, with diffusers' names in camelCase, and their check.
 *
 * Invariant: a call that passes does not fail later because of its parameters. Pictures are not resized here; they must have exactly the
 * call's size. Pixels keep the form in which they were given until the run encodes them, because a call may wait long for memory and that
 * form is the smallest. Knows nothing about steps.
 */
import type { Gray8Image, Rgb8Image } from '../tensor/image-processor.ts'
import { splitRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { resolveCall } from './generate-call.ts'
import type { GenerateCall } from './generate-call.ts'
import { checkParams, show } from './check-params.ts'
import { GenerateParamsError } from './generate-params.ts'
import type { GenerateParams } from './generate-params.ts'
import type { ResidentModel } from './resident-model.ts'

export interface Img2ImgParams extends GenerateParams {
  /**
   * The picture to start from: RGB, a tensor (pictures, 3, height, width) with values from 0 to 1, or latents (pictures, latent_channels,
   * height / 8, width / 8), which are not encoded again. Either one for all rows or several: row i starts from picture i modulo their number.
   * `width` and `height` default to the picture's own.
   */
  readonly image: Rgb8Image | readonly Rgb8Image[] | Tensor
  /** How far to move away from the picture: above 0, which would keep it, up to 1, which ignores it. At least one step runs. Default 0.6. */
  readonly strength?: number | undefined
}

export interface InpaintParams extends Img2ImgParams {
  /** Where to paint: values from 128 (of 255) or 0.5 up. It has the picture's size; a tensor is (masks, 1, height, width), values 0 to 1. */
  readonly maskImage: Gray8Image | readonly Gray8Image[] | Tensor
}

const defaultStrength = 0.6

/** Throws GenerateParamsError for what cannot be run. */
export function resolveImg2Img(params: Img2ImgParams, model: ResidentModel): GenerateCall {
  checkIsObject(params)
  const { image, strength, ...rest } = params
  return resolve(rest, { image, strength }, model)
}

/** Like resolveImg2Img, with a mask. */
export function resolveInpaint(params: InpaintParams, model: ResidentModel): GenerateCall {
  checkIsObject(params)
  const { image, strength, maskImage, ...rest } = params
  if ((maskImage as unknown) === undefined) throw new GenerateParamsError('maskImage', 'a mask', 'nothing')
  return resolve(rest, { image, strength, maskImage }, model)
}

function resolve(
  params: GenerateParams,
  { image, strength = defaultStrength, maskImage }: Pick<Img2ImgParams, 'image' | 'strength'> & Partial<Pick<InpaintParams, 'maskImage'>>,
  model: ResidentModel,
): GenerateCall {
  const { config, encoder, scale } = model.vae
  checkParams(params, model.limits)
  if (typeof strength !== 'number' || !(strength > 0 && strength <= 1))
    throw new GenerateParamsError('strength', 'a number above 0, up to 1', show(strength))
  const areLatents = image instanceof Tensor && image.dims[1] === config.latent_channels
  const pictures = toList('image', image, areLatents ? config.latent_channels : 3)
  if (!areLatents && encoder === undefined) throw new GenerateParamsError('image', 'latents, as the model has no VAE encoder', 'a picture')
  const unit = areLatents ? scale : 1
  const [width, height] = sidesOf(pictures[0] as Rgb8Image | Tensor).map((side) => side * unit) as [number, number]
  const call = resolveCall({ ...params, width: params.width ?? width, height: params.height ?? height }, model.defaults, model.limits)
  if (call.width !== width || call.height !== height)
    throw new GenerateParamsError('image', `of the call's ${call.width}x${call.height} pixels`, `${width}x${height}`)
  expectShare('image', pictures.length, call)
  const masks = maskImage === undefined ? [] : toList('maskImage', maskImage, 1)
  const mask = masks[0] === undefined ? undefined : sidesOf(masks[0])
  if (mask !== undefined && (mask[0] !== width || mask[1] !== height))
    throw new GenerateParamsError('maskImage', `of the picture's ${width}x${height} pixels`, mask.join('x'))
  if (mask !== undefined) expectShare('maskImage', masks.length, call)
  const start = { pictures, areLatents, mask: mask && model.imageProcessor.preprocessMask(masks, scale), strength }
  return { ...call, start }
}

function checkIsObject(params: unknown): void {
  if (typeof params !== 'object' || params === null) throw new GenerateParamsError('params', 'an object with a prompt', show(params))
}

/** The pictures one by one, which must all have one size. `channels`: 3, 1 or the number of latent channels. */
function toList(name: string, given: unknown, channels: number): (Rgb8Image | Tensor)[] {
  if (given instanceof Tensor) {
    if (given.dims.length !== 4 || given.dims[1] !== channels || given.numel === 0)
      throw new GenerateParamsError(name, `of dims [pictures, ${channels}, height, width]`, `[${given.dims.join(', ')}]`)
    const stray = channels > 3 ? undefined : given.data.find((value) => !(value >= 0 && value <= 1))
    if (stray !== undefined) throw new GenerateParamsError(name, 'of values from 0 to 1', `${stray}`)
    return splitRows(given)
  }
  const list: readonly unknown[] = Array.isArray(given) ? given : [given]
  const [first] = list
  if (first === undefined) throw new GenerateParamsError(name, 'a picture, a list of them or a Tensor', 'nothing')
  return list.map((picture) => {
    if (!isPicture(picture)) throw new GenerateParamsError(name, '{ data, width, height } of 8-bit pixels', show(picture))
    const { data, width, height } = picture
    if (data.length !== width * height * channels)
      throw new GenerateParamsError(name, `${width * height * channels} bytes for ${width}x${height} pixels`, `${data.length}`)
    const { width: firstWidth, height: firstHeight } = first as Rgb8Image
    if (width !== firstWidth || height !== firstHeight)
      throw new GenerateParamsError(name, `pictures of one size, ${firstWidth}x${firstHeight}`, `${width}x${height}`)
    return picture
  })
}

function isPicture(value: unknown): value is Rgb8Image {
  const { data, width, height } = (value ?? {}) as Partial<Rgb8Image>
  return data instanceof Uint8Array && Number.isInteger(width) && Number.isInteger(height)
}

/** The width and height in pixels. */
function sidesOf(picture: Rgb8Image | Tensor): [number, number] {
  return picture instanceof Tensor ? [picture.dims[3] as number, picture.dims[2] as number] : [picture.width, picture.height]
}

function expectShare(name: string, count: number, { batch, numImagesPerPrompt }: GenerateCall): void {
  const rows = batch * numImagesPerPrompt
  if (rows % count !== 0) throw new GenerateParamsError(name, `one, or a number that divides the ${rows} pictures of the call`, `${count}`)
}
