/**
 * Stable Diffusion 3 from a picture and a prompt to another picture. Uses the parts of a loaded pipeline, or loads its own.
 *
 * Everything except the parameters of a call comes from the text-to-image pipeline. Runs in the engine process.
 */
import type { GenerateResult } from './generate-result.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'
import { resolveImg2Img } from './picture-params.ts'
import type { Img2ImgParams } from './picture-params.ts'

export class StableDiffusion3Img2ImgPipeline extends StableDiffusion3Pipeline {
  static override async fromPretrained(model: string, options?: FromPretrainedOptions): Promise<StableDiffusion3Img2ImgPipeline> {
    return this.fromPipe(await StableDiffusion3Pipeline.fromPretrained(model, options))
  }

  override get defaultSteps(): number {
    return 50
  }

  override async generate(params: Img2ImgParams): Promise<GenerateResult> {
    return await this.carryOut(() => resolveImg2Img(params, this))
  }
}
