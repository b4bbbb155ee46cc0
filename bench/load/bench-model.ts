/** The model under test: tiny-scenes on the CPU, in this process. This is what the worker's engine process runs, without the process around it. */
import { fileURLToPath } from 'node:url'
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import type { BatchingOptions } from '@easel/pipeline'

export const modelsDir = fileURLToPath(new URL('../../models', import.meta.url))
export const modelName = 'tiny-scenes'

export async function openModel(batching: BatchingOptions = {}): Promise<StableDiffusion3Pipeline> {
  return await StableDiffusion3Pipeline.fromPretrained(modelName, { device: 'cpu', modelsDir, batching })
}
