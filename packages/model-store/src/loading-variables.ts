/**
 * The environment variables that say how a model is loaded, for the worker and for `easel draw`. Imports no part of the library that loads
 * ONNX Runtime, so that a configuration can be read without it.
 */
import { z } from 'zod'
import { DEVICES } from '@easel/pipeline/devices'

export const loadingVariables = {
  MODEL_PARTS: z
    .string()
    .min(1)
    .optional()
    .describe(
      'A model in diffusers’ layout, named as in MODEL, that provides the parts which the model lacks: a single .safetensors file lacks the tokenizers, the scheduler and every config.json. Unset: they have to be beside it.',
    ),
  WEIGHTS: z
    .enum(['auto', 'packed', 'mapped'])
    .default('auto')
    .describe(
      'How a worker without a GPU holds the weights of .safetensors files. `packed`: as a copy of its own in float32, which is fastest; `mapped`: where they lie in the file, which loads at once and is shared by all workers on the machine; `auto`: packed if memory allows it, and the log says why.',
    ),
  TEXT_ENCODER_3: z
    .enum(['auto', 'off'])
    .default('auto')
    .describe('`off` omits the T5 text encoder: 9.5 GB less for a real model, and prompts are followed less closely.'),
  DEVICE: z.enum(DEVICES).default('auto').describe('Where the model runs. `auto`: the best that works here, and the log says why.'),
}
