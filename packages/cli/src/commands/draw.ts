/** `easel draw PROMPT`: draws pictures in this process, from noise or from a picture, without Redis or a service. */
import { randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, extname, resolve } from 'node:path'
import sharp from 'sharp'
import { z } from 'zod'
import { countStepsRun, defaultStrength } from '@easel/contract'
import type { InputFit } from '@easel/contract'
import {
  GenerateParamsError,
  imageGenerators,
  imageSeed,
  StableDiffusion3Img2ImgPipeline,
  StableDiffusion3InpaintPipeline,
  StableDiffusion3Pipeline,
} from '@easel/pipeline'
import type { Device, FromPretrainedOptions, GenerateParams, GenerateResult } from '@easel/pipeline'
import { loadingVariables } from '@easel/model-store/loading-variables'
import { readVariables } from '@easel/process'
import { createProgressLines } from '../terminal/progress-lines.ts'
import { toDuration } from '../terminal/say.ts'
import { toHalfBlocks, toRows } from '../terminal/terminal-picture.ts'
import { readPictures } from './read-pictures.ts'
import type { DrawnPictures } from './read-pictures.ts'

export interface DrawOptions {
  /** The folder to which paths on the command line are relative. */
  here: string
  modelsDir: string
  output: string
  model: string
  device: Device
  n: number
  seed?: number
  size?: { width: number; height: number }
  steps?: number
  guidance?: number
  negative?: string
  /** File or URL of a picture to begin with. Default: noise alone. */
  image?: string
  /** File or URL of a mask; its white parts are repainted. Only with `image`. Default: everything is. */
  mask?: string
  /** How far the result may depart from `image`: above 0, up to 1. Default 0.6. */
  strength?: number
  /** How `image` fills another size. Default `cover`. */
  fit?: InputFit
  json?: boolean
}

/** The width of a picture in characters, on a terminal that is at least that wide. */
const pictureColumns = 64

/** The option that sets each parameter of the library, for errors about it. */
const optionOf: Readonly<Record<string, string>> = {
  width: '--size',
  height: '--size',
  numImagesPerPrompt: '--n',
  numInferenceSteps: '--steps',
  guidanceScale: '--guidance',
  negativePrompt: '--negative',
}

export async function draw(prompt: string, options: DrawOptions): Promise<number> {
  const { here, modelsDir, output, model, device, n, json = false } = options
  const folder = dirname(resolve(here, output))
  if (!existsSync(folder)) throw new Error(`Expected a folder at ${folder} for --output, got nothing there.`)
  const { image, mask, fit = 'cover', strength = defaultStrength, size } = options
  const toPictures = image === undefined ? undefined : await readPictures({ here, image, mask, fit, size })
  const loadedAt = performance.now()
  console.error(`Loading ${model} …`)
  const path = resolve(here, model)
  const loading: FromPretrainedOptions = { device, modelsDir, ...readLoadingVariables(process.env) }
  const pipeline = await StableDiffusion3Pipeline.fromPretrained(existsSync(path) ? path : model, loading)
  try {
    const { provider } = pipeline.device
    console.error(`${pipeline.model.id} on ${provider}, loaded in ${toDuration((performance.now() - loadedAt) / 1000)}`)
    const lines = createProgressLines([prompt], process.stderr)
    const { defaults, limits } = pipeline
    const steps = options.steps ?? defaults.numInferenceSteps
    const total = countStepsRun({ num_inference_steps: steps, image, strength })
    lines.update(0, { status: 'encoding', progress: { step: 0, total } })
    const seed = options.seed ?? randomInt(2 ** 32)
    const pictures = await toPictures?.({
      multiple: limits.sizeMultiple,
      maxSide: limits.maxSide,
      maxArea: defaults.width * defaults.height,
    })
    const params: GenerateParams = {
      prompt,
      negativePrompt: options.negative,
      generator: imageGenerators(seed, n),
      ...size,
      numInferenceSteps: steps,
      guidanceScale: options.guidance,
      numImagesPerPrompt: n,
      callbackOnStepEnd: (_, step) => lines.update(0, { status: 'drawing', progress: { step: step + 1, total } }),
    }
    const { images } = await generate(pipeline, params, pictures, strength).catch((error: unknown) => {
      throw toCommandLineError(error)
    })
    lines.update(0, { status: 'done', progress: { step: total, total } })
    const written = await Promise.all(
      images.map(async ({ data, width, height }, index) => {
        const file = resolve(here, images.length === 1 ? output : output.replace(/(\.\w+)$/, `-${index}$1`))
        await writeFile(
          file,
          await sharp(data, { raw: { width, height, channels: 3 } })
            .toFormat(toFormat(output))
            .toBuffer(),
        )
        return { file, width, height, seed: imageSeed(seed, index) }
      }),
    )
    if (json) console.log(JSON.stringify(written))
    else {
      await show(images)
      for (const { file, width, height, seed: own } of written) console.log(`${file}  (${width} × ${height}, seed ${own})`)
    }
    return 0
  } finally {
    await pipeline.close()
  }
}

async function generate(
  pipeline: StableDiffusion3Pipeline,
  params: GenerateParams,
  pictures: DrawnPictures | undefined,
  strength: number,
): Promise<GenerateResult> {
  if (pictures === undefined) return await pipeline.generate(params)
  const { image, mask: maskImage } = pictures
  if (maskImage === undefined) return await StableDiffusion3Img2ImgPipeline.fromPipe(pipeline).generate({ ...params, image, strength })
  return await StableDiffusion3InpaintPipeline.fromPipe(pipeline).generate({ ...params, image, maskImage, strength })
}

/** Makes an error about a parameter name the option that was typed. */
function toCommandLineError(error: unknown): unknown {
  const option = error instanceof GenerateParamsError ? optionOf[error.param] : undefined
  return option === undefined ? error : new Error(`${option}: ${(error as Error).message}`, { cause: error })
}

/** How the model is loaded, from the variables that a worker reads too. */
function readLoadingVariables(env: NodeJS.ProcessEnv): FromPretrainedOptions {
  const variables = readVariables(z.object(loadingVariables).omit({ DEVICE: true }), env)
  return {
    modelParts: variables.MODEL_PARTS,
    weights: variables.WEIGHTS,
    components: variables.TEXT_ENCODER_3 === 'off' ? { textEncoder3: null, tokenizer3: null } : {},
  }
}

function toFormat(output: string): 'png' | 'jpeg' | 'webp' {
  const extension = extname(output).toLowerCase()
  return extension === '.png' ? 'png' : extension === '.webp' ? 'webp' : 'jpeg'
}

/** Shows the pictures on a terminal that has 24-bit colour. */
async function show(images: readonly { data: Uint8Array; width: number; height: number }[]): Promise<void> {
  if (!process.stdout.isTTY || process.stdout.getColorDepth() !== 24) return
  const columns = Math.min(images.length > 1 ? pictureColumns / 2 : pictureColumns, process.stdout.columns)
  const pictures = images.map(async ({ data, width, height }) => {
    const rows = Math.max(2, Math.round((columns * height) / width))
    const small = sharp(data, { raw: { width, height, channels: 3 } }).resize(columns, rows, { fit: 'fill' })
    const { data: pixels, info } = await small.raw().toBuffer({ resolveWithObject: true })
    return toHalfBlocks({ data: pixels, width: info.width, height: info.height })
  })
  console.log(toRows(await Promise.all(pictures), columns, process.stdout.columns).join('\n'))
}
