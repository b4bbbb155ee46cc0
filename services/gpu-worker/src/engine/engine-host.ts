/**
 * The child's side of the protocol: one resident pipeline, a request-scoped view for each call.
 *
 * Invariant: every generate is answered by exactly one done or error; after it nothing here holds the call's latents or pixels. Runs in the
 * engine process. Knows nothing about jobs, files or what happens to the pictures.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  fitPreviewProjection,
  imageGenerators,
  isOutOfMemory,
  loadPipeline,
  projectPreview,
  readPreviewProjection,
  RequestScopedPipeline,
  runtimeVersion,
  StableDiffusion3Pipeline,
  Tensor,
} from '@easel/pipeline'
import type { Device, Generator, GenerateParams, GenerateResult, PreviewProjection, ResumePoint } from '@easel/pipeline'
import type { Checkpoint, EngineCapabilities, EngineErrorCode, EngineOptions, EngineStep, FromEngine, ToEngine } from './protocol.ts'
import { StepClock } from './step-clock.ts'

/** Milliseconds that an engine told to stop may take to write down its step times. */
const saveLimitMs = 500

type GenerateMessage = Extract<ToEngine, { type: 'generate' }>

interface Call {
  readonly abort: AbortController
  readonly generators: readonly Generator[]
  step: number
  latents: Tensor | undefined
}

export async function runEngineHost(channel: NodeJS.Process): Promise<void> {
  // A parent that is gone closes the channel, and that ends this process; what could not be sent any more is nobody's.
  const send = (message: FromEngine): void => void channel.send?.(message, () => {})
  const options = JSON.parse(channel.argv[2] ?? '{}') as EngineOptions

  let pipeline: StableDiffusion3Pipeline
  let capabilities: EngineCapabilities
  try {
    pipeline = await load(options, ({ rows, durationMs, waitMs }) => send({ type: 'step', rows, durationMs, waitMs }))
    await pipeline.warmUp()
    capabilities = await toCapabilities(pipeline, options)
  } catch (error) {
    channel.send?.({ type: 'error', code: 'load_failed', message: messageOf(error) } satisfies FromEngine, () => channel.exit(1))
    return
  }

  const scoped = new RequestScopedPipeline(pipeline)
  const calls = new Map<string, Call>()
  const clock = new StepClock()
  const stochastic = capabilities.scheduler.config['stochasticSampling'] === true
  const defaultPixels = capabilities.defaults.width * capabilities.defaults.height

  // Shipped with the model, or fitted when the first preview is asked for; until then, and where that fails, there are none.
  let projection: PreviewProjection | undefined
  let fitting: Promise<void> | undefined
  try {
    projection = await readPreviewProjection(pipeline.model.folder, pipeline.vae.config.latent_channels)
  } catch (error) {
    process.emitWarning(messageOf(error))
  }
  const fitProjection = async (): Promise<void> => {
    try {
      const { vae, imageProcessor } = pipeline
      projection = await fitPreviewProjection({ vae, imageProcessor, generate: (request) => scoped.generate(request) })
    } catch (error) {
      process.emitWarning(`No previews: ${messageOf(error)}`)
    }
  }

  const generate = async ({ id, params, resume, previewEvery = Infinity }: GenerateMessage): Promise<void> => {
    const abort = new AbortController()
    const { seed, numImagesPerPrompt, ...rest } = params
    const generators = imageGenerators(seed, numImagesPerPrompt)
    const call: Call = { abort, generators, step: resume?.step ?? 0, latents: undefined }
    calls.set(id, call)
    clock.enter()
    if (previewEvery < Infinity && projection === undefined) fitting ??= fitProjection()
    try {
      const total = params.sigmas?.length ?? params.numInferenceSteps
      const request: GenerateParams = {
        ...rest,
        numImagesPerPrompt,
        generator: generators,
        signal: abort.signal,
        resume: resume === undefined ? undefined : toResumePoint(resume),
        callbackOnStepEnd: (_, step, __, { latents }) => {
          call.step = step + 1
          call.latents = latents
          clock.count((numImagesPerPrompt * params.width * params.height) / defaultPixels)
          send({ type: 'progress', id, step: step + 1, total })
          // After the last step comes the picture.
          if (projection === undefined || latents === undefined || (step + 1) % previewEvery !== 0 || step + 1 === total) return
          for (const image of projectPreview(projection, latents)) send({ type: 'preview', id, step: step + 1, ...image })
        },
      }
      const { images, timings }: GenerateResult = await scoped.generate(request)
      images.forEach(({ data, width, height }, index) => send({ type: 'image', id, index, width, height, rgb: data }))
      send({ type: 'done', id, timings, memoryBytes: process.memoryUsage.rss() })
    } catch (error) {
      const code = abort.signal.aborted ? 'canceled' : toErrorCode(error)
      send({ type: 'error', id, code, message: messageOf(error), memoryBytes: process.memoryUsage.rss() })
    } finally {
      clock.leave()
      calls.delete(id)
    }
  }

  channel.on('message', (message: ToEngine) => {
    switch (message.type) {
      case 'generate':
        void generate(message)
        break
      case 'cancel':
        calls.get(message.id)?.abort.abort()
        break
      case 'checkpoint': {
        const checkpoint = toCheckpoint(calls.get(message.id), stochastic)
        send({ type: 'checkpoint', id: message.id, ...(checkpoint === undefined ? {} : { checkpoint }) })
        break
      }
      case 'stats':
        send({
          type: 'stats',
          stats: { memoryBytes: process.memoryUsage.rss(), active: calls.size, stepMs: clock.stepMs, pipeline: pipeline.engineStats() },
        })
        break
      case 'stop':
        // What was learnt is worth a moment.
        void Promise.race([pipeline.runtime.saveStepTimes(), sleep(saveLimitMs)]).then(() => channel.exit(0))
    }
  })
  send({ type: 'ready', capabilities, memoryBytes: process.memoryUsage.rss() })
}

async function load(options: EngineOptions, onStep: (step: EngineStep) => void): Promise<StableDiffusion3Pipeline> {
  const { model, modelsDir, device, maxBatchRows, batchPolicy: policy, cacheDir, memoryLimitBytes } = options
  const batching = { maxBatchRows, policy, cacheDir, memoryLimitBytes, onStep }
  const pipeline = await loadPipeline(model, { modelsDir, device: device as Device, batching })
  if (pipeline instanceof StableDiffusion3Pipeline) return pipeline
  await pipeline.close()
  throw new TypeError(`Expected a StableDiffusion3Pipeline, got ${pipeline.constructor.name}`)
}

async function toCapabilities(pipeline: StableDiffusion3Pipeline, { contentHash }: EngineOptions): Promise<EngineCapabilities> {
  const { model, device, defaults, limits, scheduler } = pipeline
  const { sizeMultiple, maxSide, maxSequenceLength, maxClipSkip } = limits
  return {
    modelId: model.id,
    contentHash: contentHash ?? (await pipeline.modelHash()),
    pipelineClass: pipeline.constructor.name,
    runtime: `onnxruntime-node ${await runtimeVersion()}`,
    provider: device.provider,
    providerReason: device.reason,
    // Through JSON: only what can be stored and compared.
    scheduler: { class: scheduler.constructor.name, config: JSON.parse(JSON.stringify(scheduler.config)) as Record<string, unknown> },
    defaults,
    // A model without CLIP encoders has no layers to skip.
    limits: { sizeMultiple, maxSide, maxSequenceLength, maxClipSkip: Number.isFinite(maxClipSkip) ? maxClipSkip : 0 },
    loadMs: performance.now(),
  }
}

function toCheckpoint(call: Call | undefined, stochastic: boolean): Checkpoint | undefined {
  if (call?.latents === undefined) return undefined
  const { data, dims, dtype } = call.latents
  const state = stochastic ? { generatorState: call.generators.map((generator) => generator.getState()) } : {}
  return { step: call.step, latents: { data, dims, dtype }, ...state }
}

function toResumePoint({ step, latents, generatorState }: Checkpoint): ResumePoint {
  return {
    step,
    latents: new Tensor(latents.data, latents.dims, latents.dtype),
    ...(generatorState === undefined ? {} : { generatorState }),
  }
}

function toErrorCode(error: unknown): EngineErrorCode {
  return isOutOfMemory(error) ? 'out_of_memory' : 'internal'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
