/**
 * The child's side of the protocol: one resident pipeline, and a request-scoped view for each call.
 *
 * Invariant: every generate is answered by exactly one done or error; after it nothing here holds the call's latents or pixels. Runs in the
 * engine process. Knows nothing about jobs, files or what happens to the pictures.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { guidedPart } from '@easel/contract'
import {
  allowHalfInstructions,
  imageGenerators,
  isOutOfMemory,
  loadPipeline,
  ModelChangedError,
  NotFiniteError,
  ownMemoryBytes,
  RequestScopedPipeline,
  StableDiffusion3Img2ImgPipeline,
  StableDiffusion3InpaintPipeline,
  StableDiffusion3Pipeline,
  Tensor,
} from '@easel/pipeline'
import type { CallState, Device, Generator, GenerateParams, GenerateResult, ResumePoint } from '@easel/pipeline'
import { Previews } from './previews.ts'
import type {
  Checkpoint,
  EngineCapabilities,
  EngineErrorCode,
  EngineOptions,
  EngineParams,
  EngineStats,
  EngineStep,
  FromEngine,
  StartFromPicture,
  ToEngine,
} from './protocol.ts'
import { StepClock } from './step-clock.ts'
import { toCapabilities } from './to-capabilities.ts'

/** How many milliseconds a stopping engine may take to save its step times. */
const saveLimitMs = 500
/**
 * How many milliseconds to wait for a model's hash before the model serves without it. This is enough for a small model, and for one whose hash
 * was kept, so that these are announced together with their hash.
 */
const hashGraceMs = 1000

type GenerateMessage = Extract<ToEngine, { type: 'generate' }>

/** A running call and its progress. */
interface Call {
  readonly abort: AbortController
  generators: readonly Generator[]
  step: number
  /** Undefined before the end of its first step. */
  run: CallState | undefined
}

/** Loads the model for which the process was started, then serves its parent until the parent is gone or sends `stop`. */
export async function runEngineHost(channel: NodeJS.Process): Promise<void> {
  // When the parent is gone the channel closes, which ends this process, so a failed send does not matter.
  const send = (message: FromEngine): void => void channel.send?.(message, () => {})
  const options = JSON.parse(channel.argv[2] ?? '{}') as EngineOptions
  // The instructions are experimental, but this process does nothing else, and it is restarted if they make it crash.
  allowHalfInstructions()
  let host: EngineHost
  let hashing: Promise<string>
  const loadFailed = (error: unknown): void =>
    void channel.send?.({ type: 'load_failed', message: messageOf(error) } satisfies FromEngine, () => channel.exit(1))
  let hashingAt = 0
  try {
    const pipeline = await load(options, {
      onStep: ({ rows, durationMs, waitMs }) => send({ type: 'step', rows, durationMs, waitMs }),
      onUnit: () => send({ type: 'unit' }),
    })
    hashingAt = performance.now()
    hashing = pipeline.modelHash()
    // A failure is handled where the hash is awaited, below.
    hashing.catch(() => {})
    await pipeline.warmUp()
    const contentHash = await Promise.race([hashing, sleep(hashGraceMs)])
    const capabilities = { ...(await toCapabilities(pipeline)), contentHash: contentHash ?? undefined }
    host = new EngineHost(pipeline, { capabilities, previews: await Previews.open(pipeline) }, send, loadFailed)
  } catch (error) {
    loadFailed(error)
    return
  }
  channel.on('message', (message: ToEngine) => {
    switch (message.type) {
      case 'generate':
        void host.generate(message)
        break
      case 'cancel':
        host.cancel(message.id)
        break
      case 'checkpoint':
        send({ type: 'checkpoint', id: message.id, checkpoint: host.checkpoint(message.id) })
        break
      case 'stats':
        send({ type: 'stats', stats: host.stats() })
        break
      case 'stop':
        // Saving what was learnt is worth a moment.
        void Promise.race([host.saveStepTimes(), sleep(saveLimitMs)]).then(() => channel.exit(0))
    }
  })
  send({ type: 'ready', capabilities: host.capabilities, memoryBytes: ownMemoryBytes() })
  if (host.capabilities.contentHash !== undefined) return
  // If a model cannot be hashed, its files are gone or unreadable, so it could not be loaded again either.
  await hashing.then((contentHash) => send({ type: 'hashed', contentHash, durationMs: performance.now() - hashingAt }), loadFailed)
}

class EngineHost {
  readonly capabilities: EngineCapabilities
  readonly #pipeline: StableDiffusion3Pipeline
  readonly #scoped: RequestScopedPipeline<StableDiffusion3Pipeline>
  readonly #scopedImg2Img: RequestScopedPipeline<StableDiffusion3Img2ImgPipeline>
  readonly #scopedInpaint: RequestScopedPipeline<StableDiffusion3InpaintPipeline>
  readonly #send: (message: FromEngine) => void
  /** Ends the process with the reason. */
  readonly #end: (reason: Error) => void
  readonly #calls = new Map<string, Call>()
  readonly #clock: StepClock
  readonly #previews: Previews

  constructor(
    pipeline: StableDiffusion3Pipeline,
    { capabilities, previews }: { capabilities: EngineCapabilities; previews: Previews },
    send: (message: FromEngine) => void,
    end: (reason: Error) => void,
  ) {
    this.#pipeline = pipeline
    this.#scoped = new RequestScopedPipeline(pipeline)
    this.#scopedImg2Img = new RequestScopedPipeline(StableDiffusion3Img2ImgPipeline.fromPipe(pipeline))
    this.#scopedInpaint = new RequestScopedPipeline(StableDiffusion3InpaintPipeline.fromPipe(pipeline))
    this.capabilities = capabilities
    this.#send = send
    this.#end = end
    const { counters } = pipeline.runtime
    this.#previews = previews
    this.#clock = new StepClock(() => counters.encodeMs + counters.decodeMs)
  }

  async generate(message: GenerateMessage): Promise<void> {
    const { id, resume, params } = message
    const call: Call = { abort: new AbortController(), generators: [], step: resume?.step ?? 0, run: undefined }
    this.#calls.set(id, call)
    this.#clock.enter()
    let pictures = 0
    // Everything that can fail because of parameters is inside, because an escaped error would end the process and all other calls.
    try {
      const { images, loras, timings } = await this.#run(this.#toRequest(message, call), message.params.start)
      images.forEach(({ data, width, height }, index) => this.#send({ type: 'image', id, index, width, height, rgb: data }))
      this.#send({ type: 'done', id, loras, timings, memoryBytes: ownMemoryBytes() })
      pictures = this.#toDefaultSized(params)
      if (call.run !== undefined) this.#previews.learn(call.run.copyLatents(), images)
    } catch (error) {
      // This call and the others start again in the next process, which loads the changed files.
      if (error instanceof ModelChangedError) return this.#end(error)
      const code = call.abort.signal.aborted ? 'canceled' : toErrorCode(error)
      this.#send({ type: 'error', id, code, message: messageOf(error), memoryBytes: ownMemoryBytes() })
    } finally {
      this.#clock.leave(pictures)
      this.#calls.delete(id)
    }
  }

  cancel(id: string): void {
    this.#calls.get(id)?.abort.abort()
  }

  /** Undefined when the call is unknown or has not begun its steps. */
  checkpoint(id: string): Checkpoint | undefined {
    const call = this.#calls.get(id)
    if (call?.run === undefined) return undefined
    const { data, dims, dtype } = call.run.copyLatents()
    const isStochastic = this.capabilities.scheduler.config['stochasticSampling'] === true
    const generatorState = isStochastic ? call.generators.map((generator) => generator.getState()) : undefined
    return { step: call.step, latents: { data, dims, dtype }, generatorState }
  }

  stats(): EngineStats {
    const pipeline = this.#pipeline.engineStats()
    const { loras } = this.#pipeline
    // Files that were added since are reported the next time.
    loras?.refresh().catch((error: unknown) => process.emitWarning(messageOf(error)))
    return {
      memoryBytes: ownMemoryBytes(),
      active: this.#calls.size,
      stepMs: this.#clock.stepMs,
      pictureMs: this.#clock.pictureMs,
      loras: loras?.ids ?? [],
      pipeline,
    }
  }

  async saveStepTimes(): Promise<void> {
    await this.#pipeline.runtime.saveStepTimes()
  }

  /** Calls of all kinds share runs of the transformer. */
  #run(request: GenerateParams, start: StartFromPicture | undefined): Promise<GenerateResult> {
    if (start === undefined) return this.#scoped.generate(request)
    const { image, mask: maskImage, strength } = start
    if (maskImage === undefined) return this.#scopedImg2Img.generate({ ...request, image, strength })
    return this.#scopedInpaint.generate({ ...request, image, maskImage, strength })
  }

  #toRequest({ id, params, resume, owner, previewEvery = Infinity }: GenerateMessage, call: Call): GenerateParams {
    const { seed, start: _, ...rest } = params
    const { numImagesPerPrompt } = params
    const pictures = this.#toDefaultSized(params)
    const guided = guidedPart(params.guidanceScale, params.guidanceInterval)
    call.generators = imageGenerators(seed, numImagesPerPrompt)
    return {
      ...rest,
      generator: call.generators,
      signal: call.abort.signal,
      owner,
      resume: resume === undefined ? undefined : toResumePoint(resume),
      callbackOnStepEndTensorInputs: [],
      callbackOnStepEnd: (run, index) => {
        const total = run.numTimesteps
        const step = index + 1
        call.step = step
        call.run = run
        this.#clock.count(pictures * guided)
        this.#send({ type: 'progress', id, step, total })
        // No preview after the last step, because the picture follows.
        if (step % previewEvery !== 0 || step === total) return
        for (const image of this.#previews.of(run.copyLatents())) this.#send({ type: 'preview', id, step, ...image })
      },
    }
  }

  /** How many pictures of the model's default size are as large as the call's pictures together. */
  #toDefaultSized({ numImagesPerPrompt, width, height }: EngineParams): number {
    const { defaults } = this.capabilities
    return (numImagesPerPrompt * width * height) / (defaults.width * defaults.height)
  }
}

async function load(
  options: EngineOptions,
  watch: { onStep: (step: EngineStep) => void; onUnit: () => void },
): Promise<StableDiffusion3Pipeline> {
  const {
    model,
    modelsDir,
    modelParts,
    weights,
    textEncoder3,
    lorasDir,
    device,
    maxBatchRows,
    batchPolicy: policy,
    cacheDir,
    memoryLimitBytes,
  } = options
  const batching = { maxBatchRows, policy, cacheDir, memoryLimitBytes, ...watch }
  const components = textEncoder3 === 'off' ? { textEncoder3: null, tokenizer3: null } : {}
  const pipeline = await loadPipeline(model, { modelsDir, modelParts, lorasDir, weights, components, device: device as Device, batching })
  if (pipeline instanceof StableDiffusion3Pipeline) return pipeline
  await pipeline.close()
  throw new TypeError(`Expected a StableDiffusion3Pipeline, got ${pipeline.constructor.name}`)
}

function toResumePoint({ step, latents, generatorState }: Checkpoint): ResumePoint {
  return {
    step,
    latents: new Tensor(latents.data, latents.dims, latents.dtype),
    generatorState,
  }
}

function toErrorCode(error: unknown): EngineErrorCode {
  if (error instanceof NotFiniteError) return 'not_finite'
  return isOutOfMemory(error) ? 'out_of_memory' : 'internal'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
