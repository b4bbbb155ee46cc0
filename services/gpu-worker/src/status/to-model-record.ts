/** What the worker announces about its model, from what the engine reports and the operator allows. Pure. */
import type { ModelRecord } from '@easel/contract'
import type { EngineCapabilities } from '../engine/protocol.ts'

const defaultMaxPixels = 2 * 1024 * 1024

export function toModelRecord(
  {
    modelId,
    contentHash,
    runtime,
    provider,
    scheduler,
    defaults,
    examples = [],
    limits,
    hasVaeEncoder,
    ...capabilities
  }: EngineCapabilities,
  {
    maxPixels,
    stepMs,
    pictureMs,
    loras = capabilities.loras,
    now,
  }: { maxPixels: number | undefined; stepMs: number | null; pictureMs: number | null; loras?: readonly string[] | undefined; now: number },
): ModelRecord {
  const largest = limits.maxSide ** 2
  const allowed = Math.min(maxPixels ?? defaultMaxPixels, largest)
  const needed = defaults.width * defaults.height
  if (allowed < needed)
    throw new RangeError(
      `Expected MAX_PIXELS to be at least ${needed}, the model's default ${defaults.width} × ${defaults.height}, got ${allowed}`,
    )
  return {
    id: modelId,
    content_hash: contentHash ?? null,
    runtime,
    provider,
    scheduler: { class: scheduler.class, config: { ...scheduler.config } },
    defaults: {
      width: defaults.width,
      height: defaults.height,
      num_inference_steps: defaults.numInferenceSteps,
      guidance_scale: defaults.guidanceScale,
      max_sequence_length: defaults.maxSequenceLength,
    },
    limits: {
      size_multiple: limits.sizeMultiple,
      max_side: limits.maxSide,
      max_pixels: allowed,
      max_sequence_length: limits.maxSequenceLength,
      max_clip_skip: limits.maxClipSkip,
      layers: limits.layers,
    },
    has_vae_encoder: hasVaeEncoder,
    loras: [...loras],
    ...(examples.length === 0 ? {} : { examples: [...examples] }),
    step_ms: stepMs,
    picture_ms: pictureMs,
    updated_at: new Date(now).toISOString(),
  }
}
