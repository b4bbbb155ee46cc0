/** Describes a loaded pipeline and what it accepts, as plain data for the worker's main process. Runs in the engine process. */
import { runtimeVersion } from '@easel/pipeline'
import type { StableDiffusion3Pipeline } from '@easel/pipeline'
import type { EngineCapabilities } from './protocol.ts'

export async function toCapabilities(pipeline: StableDiffusion3Pipeline): Promise<EngineCapabilities> {
  const { model, device, defaults, examples, limits, origin, scheduler } = pipeline
  const { sizeMultiple, maxSide, maxSequenceLength, maxClipSkip, layers = 0 } = limits
  return {
    modelId: model.id,
    pipelineClass: pipeline.constructor.name,
    runtime: `onnxruntime-node ${await runtimeVersion()}`,
    provider: device.provider,
    providerReason: device.reason,
    graphs: origin.graphs,
    weights: origin.weights,
    weightsReason: origin.reason,
    // Goes through JSON to keep only what can be stored and compared.
    scheduler: { class: scheduler.constructor.name, config: JSON.parse(JSON.stringify(scheduler.config)) as Record<string, unknown> },
    defaults,
    examples,
    // A model without CLIP encoders has no layers to skip.
    limits: { sizeMultiple, maxSide, maxSequenceLength, maxClipSkip: Number.isFinite(maxClipSkip) ? maxClipSkip : 0, layers },
    hasVaeEncoder: pipeline.vae.encoder !== undefined,
    loras: pipeline.loras?.ids ?? [],
    loadMs: performance.now(),
  }
}
