/** The error message that a user sees for a model that does not load. */
import { StableDiffusion3Pipeline } from '../src/sd3/pipeline.ts'
import type { FromPretrainedOptions } from '../src/sd3/pipeline.ts'

/** 'loaded' if the model does load. */
export async function messageOfLoading(model: string, options: FromPretrainedOptions = {}): Promise<string> {
  try {
    await (await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...options })).close()
  } catch (error) {
    return (error as Error).message
  }
  return 'loaded'
}
