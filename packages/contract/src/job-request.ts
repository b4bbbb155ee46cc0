/**
 * What POST /v1/jobs accepts, as far as this can be checked without knowing the model. What depends on a model (sizes, lengths, defaults) is
 * checked in the api against the model's record.
 */
import { z } from 'zod'
import { inputFits, inputPictureSchema } from './input-picture.ts'

/** The largest seed, 2^53 - 1. As in torch, the low 32 bits decide the picture. */
export const maxSeed = Number.MAX_SAFE_INTEGER
export const maxImagesPerPrompt = 10
export const maxInferenceSteps = 200

const promptText = z.string()
const prompt = promptText.refine((text) => text.trim() !== '', 'text that is not blank')

const side = z
  .int()
  .min(1)
  .optional()
  .meta({
    description:
      'Pixels. A multiple of the model’s `limits.size_multiple`. Default: that of `image`, scaled down to what the model draws; else the model’s.',
    examples: [128],
  })

export const webhookEventNames = ['queued', 'started', 'progress', 'completed'] as const

/** The fields that say which picture to make, in snake case and with diffusers' words. */
export const generationFields = {
  prompt: prompt.meta({
    description: 'What the picture shows. At most MAX_PROMPT_LENGTH characters; the text encoders read the first tokens only.',
    examples: ['a red boat on the sea'],
  }),
  prompt_2: prompt.optional().meta({ description: 'Prompt for the second text encoder. Default: `prompt`.' }),
  prompt_3: prompt.optional().meta({ description: 'Prompt for the third text encoder (T5). Default: `prompt`.' }),
  negative_prompt: promptText
    .optional()
    .meta({ description: 'What the picture should not show; used when guidance is on. Default: empty.', examples: ['a box'] }),
  negative_prompt_2: promptText
    .optional()
    .meta({ description: 'Negative prompt for the second text encoder. Default: `negative_prompt`.' }),
  negative_prompt_3: promptText.optional().meta({ description: 'Negative prompt for the third text encoder. Default: `negative_prompt`.' }),
  image: z
    .string()
    .min(1)
    .optional()
    .meta({
      description:
        'A picture to begin with (image-to-image): an https:// URL, a data: URL, `upload:ID` from POST /v1/uploads, or `job:ID` for the input of an earlier job. PNG, JPEG, WebP, AVIF, or the first frame of a GIF.',
      examples: ['https://example.com/red-boat.png'],
    }),
  mask: z
    .string()
    .min(1)
    .optional()
    .meta({
      description:
        'Which part of `image` is repainted (inpainting): white is repainted, black is kept. Given like `image`, and stretched to its size.',
      examples: ['https://example.com/mask.png'],
    }),
  strength: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .meta({
      description:
        'How far the picture may depart from `image`: that fraction of the steps is run, at least one; above 0, up to 1. Only with `image`. Default 0.6.',
      examples: [0.6],
    }),
  fit: z.enum(inputFits).optional().meta({
    description:
      'How `image` is brought to width × height: `cover` fills the area and crops the rest, `contain` shows all of it on black, `fill` stretches it. Only with `image`. Default cover.',
  }),
  width: side,
  height: side,
  num_inference_steps: z
    .int()
    .min(1)
    .max(maxInferenceSteps)
    .optional()
    .meta({ description: 'Denoising steps, 1 to 200. Default: the model’s, or the length of `sigmas`.', examples: [20] }),
  sigmas: z
    .array(z.number().min(0).max(1000))
    .min(1)
    .max(maxInferenceSteps)
    .optional()
    .meta({ description: 'Noise levels to use in place of the scheduler’s, one for each step; they decide the number of steps.' }),
  guidance_scale: z
    .number()
    .min(0)
    .max(100)
    .optional()
    .meta({
      description: 'Classifier-free guidance, 0 to 100. Up to 1 it is off and `negative_prompt` is not used. Default: the model’s.',
      examples: [4],
    }),
  guidance_interval: z
    .tuple([z.number().min(0).max(1), z.number().min(0).max(1)])
    .refine(([start, stop]) => start <= stop, 'a start that is not after the stop')
    .optional()
    .meta({
      description: 'Part of the run, as fractions, in which guidance is on. Default: [0, 1], the whole run.',
      examples: [[0.1, 0.8]],
    }),
  skip_guidance_layers: z
    .array(z.int().min(0).max(999))
    .min(1)
    .max(100)
    .optional()
    .meta({
      description:
        'Skip-layer guidance: layers of the transformer that are left out in a third pass, from which the picture is pushed away. Layers count from 0 to below the model’s `limits.layers`; used when guidance is on. Default: none.',
      examples: [[7, 8, 9]],
    }),
  skip_layer_guidance_scale: z
    .number()
    .min(0)
    .max(100)
    .optional()
    .meta({ description: 'How strongly it is pushed away, 0 to 100. Only with `skip_guidance_layers`. Default 2.8.', examples: [2.8] }),
  skip_layer_guidance_start: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .meta({ description: 'Fraction of the run after which it begins. Only with `skip_guidance_layers`. Default 0.01.', examples: [0.01] }),
  skip_layer_guidance_stop: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .meta({ description: 'Fraction of the run before which it ends. Only with `skip_guidance_layers`. Default 0.2.', examples: [0.2] }),
  loras: z
    .array(
      z.strictObject({
        id: z.string().min(1).max(200).meta({ description: 'One of the model’s `loras`.' }),
        scale: z.number().min(-4).max(4).optional().meta({ description: 'How much of it, -4 to 4. Default 1.' }),
      }),
    )
    .min(1)
    .max(4)
    .refine((loras) => new Set(loras.map(({ id }) => id)).size === loras.length, 'a list with each id once')
    .optional()
    .meta({
      description: 'LoRAs to add to the model for this job, at most 4, each once: those of `loras` in GET /v1/capabilities. Default: none.',
      examples: [[{ id: 'watercolour', scale: 0.8 }]],
    }),
  num_images_per_prompt: z
    .int()
    .min(1)
    .max(maxImagesPerPrompt)
    .optional()
    .meta({
      description: 'Number of pictures, 1 to 10. Picture i has seed `seed + i` and is the one which that seed gives alone. Default 1.',
      examples: [1],
    }),
  seed: z
    .int()
    .min(0)
    .max(maxSeed)
    .optional()
    .meta({
      description: 'Random seed, 0 to 2^53 - 1; the low 32 bits decide, as in torch. Default: drawn from 0 to 2^32 - 1 and reported.',
      examples: [42],
    }),
  clip_skip: z
    .int()
    .min(0)
    .optional()
    .meta({ description: 'Layers of the CLIP encoders to skip from the end, 0 up to the model’s `limits.max_clip_skip`.' }),
  max_sequence_length: z
    .int()
    .min(1)
    .max(512)
    .optional()
    .meta({ description: 'Number of tokens for the third text encoder, up to the model’s limit. Default: the model’s.' }),
  output_format: z.enum(['png', 'jpeg', 'webp']).optional().meta({ description: 'File format of the pictures. Default png.' }),
  output_quality: z.int().min(1).max(100).optional().meta({ description: 'Quality of jpeg and webp, 1 to 100; not for png. Default 90.' }),
}

/** Those of them that are prompts. */
export const promptFields = ['prompt', 'prompt_2', 'prompt_3', 'negative_prompt', 'negative_prompt_2', 'negative_prompt_3'] as const

/** The fields that say how the job is run and followed. */
export const deliveryFields = {
  webhook: z
    .string()
    .min(1)
    .max(2048)
    .optional()
    .meta({ description: 'URL that receives messages about the job (Standard Webhooks).', examples: ['https://example.com/hooks/easel'] }),
  webhook_events_filter: z
    .array(z.enum(webhookEventNames))
    .min(1)
    .max(4)
    .optional()
    .meta({ description: 'Events that the webhook receives. Default: completed only (succeeded, failed or canceled).' }),
  preview_every: z
    .int()
    .min(1)
    .max(maxInferenceSteps)
    .optional()
    .meta({ description: 'Put a small preview into the event stream every so many steps, but not after the last. Default: none.' }),
  priority: z
    .int()
    .min(-10)
    .max(10)
    .optional()
    .meta({ description: 'Jobs with a higher priority run earlier, -10 to 10; waiting jobs age, so that none starves. Default 0.' }),
  expires_in: z
    .int()
    .min(1)
    .max(604_800)
    .optional()
    .meta({ description: 'Seconds: fail the job with `expired` if it was not started by then. Default: wait for ever.' }),
  deadline: z
    .union(
      [z.number().gt(0).max(604_800), z.iso.datetime({ offset: true, error: 'an instant such as 2026-12-24T18:00:00Z' })],
      'seconds above 0 up to 604800, or an instant',
    )
    .optional()
    .meta({
      description:
        'Seconds from now, or an instant (ISO 8601), by which the job must have ended to be of use. The request is refused with `deadline_unreachable` when the present queue makes that impossible; a waiting job that can no longer meet it fails with `expired`. A deadline does not move a job ahead of others. Default: none.',
      examples: [60],
    }),
  timeout: z
    .int()
    .min(1)
    .max(86_400)
    .optional()
    .meta({ description: 'Seconds: stop the job with `timeout` when it runs longer. Default: the server’s `DEFAULT_TIMEOUT`, or none.' }),
}

export const createJobRequestSchema = z
  .strictObject({
    model: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .meta({ description: 'A model of GET /v1/capabilities. Default: the server’s default model.', examples: ['tiny-scenes'] }),
    ...generationFields,
    ...deliveryFields,
  })
  .meta({ id: 'CreateJob' })
export type CreateJobRequest = z.infer<typeof createJobRequestSchema>

/** What the engine needs, with all defaults and the seed decided, so that a second run of the same input makes the same bytes. */
export const jobInputSchema = z
  .object({
    model: z.string(),
    ...generationFields,
    image: inputPictureSchema.optional(),
    mask: inputPictureSchema.optional(),
    // The api has already checked prompts; a record is not checked again.
    prompt: z.string(),
    negative_prompt: z.string(),
    width: z.int(),
    height: z.int(),
    num_inference_steps: z.int(),
    guidance_scale: z.number(),
    num_images_per_prompt: z.int(),
    seed: z.int(),
    max_sequence_length: z.int(),
    output_format: z.enum(['png', 'jpeg', 'webp']),
  })
  .meta({ id: 'JobInput' })
export type JobInput = z.infer<typeof jobInputSchema>
