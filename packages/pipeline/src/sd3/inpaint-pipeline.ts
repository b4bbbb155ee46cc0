/**
 * Stable Diffusion 3 inside a mask: the picture is kept where the mask is black and painted where it is white.
 *
 * Everything except the parameters of a call comes from the text-to-image pipeline. Runs in the engine process.
 */
import type { GenerateResult } from './generate-result.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'
import { resolveInpaint } from './picture-params.ts'
import type { InpaintParams } from './picture-params.ts'

export class StableDiffusion3InpaintPipeline extends StableDiffusion3Pipeline {
  static override async fromPretrained(model: string, options?: FromPretrainedOptions): Promise<StableDiffusion3InpaintPipeline> {
    return this.fromPipe(await StableDiffusion3Pipeline.fromPretrained(model, options))
  }

  override get defaultSteps(): number {
    return 50
  }

  override async generate(params: InpaintParams): Promise<GenerateResult> {
    return await this.carryOut(() => resolveInpaint(params, this))
  }
}
