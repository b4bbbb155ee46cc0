/**
 * Stable Diffusion 3: a prompt becomes a picture.
 *
 * Owns the call, in diffusers' phases (pipeline_stable_diffusion_3.py@58eb52c): encode, prepare latents, denoise, decode. Weights are
 * read-only; the state of a call (schedule, guidance, interrupt) lives on `this`. Invariant: one object runs one call at a time;
 * concurrent calls each need a view of their own, which RequestScopedPipeline makes.
 * Knows nothing about jobs, queues or files of pictures. Runs in the engine process.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { Engine } from '../runtime/engine.ts'
import type { BatchingOptions } from '../runtime/engine.ts'
import type { EngineStats } from '../runtime/engine-stats.ts'
import type { StepRow } from '../runtime/step-batcher.ts'
import { untilAborted } from '../runtime/until-aborted.ts'
import type { AutoencoderKL } from '../models/autoencoder-kl.ts'
import type { ClipTextEncoder } from '../models/clip-text-encoder.ts'
import { defaultCpuThreads } from '../models/cpu-threads.ts'
import { resolveDevice } from '../models/device.ts'
import type { Device, ResolvedDevice } from '../models/device.ts'
import { readGpuNames } from '../models/gpu-names.ts'
import { ClosedError, runtimeVersion } from '../models/onnx-session.ts'
import type { Sd3Transformer } from '../models/sd3-transformer.ts'
import type { T5TextEncoder } from '../models/t5-text-encoder.ts'
import { retrieveTimesteps } from '../schedulers/retrieve-timesteps.ts'
import type { FlowMatchEulerDiscreteConfig } from '../schedulers/flow-match-config.ts'
import type { Scheduler } from '../schedulers/scheduler.ts'
import { roundToFloat16 } from '../tensor/float16.ts'
import { VaeImageProcessor } from '../tensor/image-processor.ts'
import type { Rgb8Image } from '../tensor/image-processor.ts'
import { Generator, randnTensor } from '../tensor/random-normal.ts'
import { commonDtype, concatRows, rowsOf, sliceRows, splitRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import type { TensorDtype } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizers/tokenizer.ts'
import { resolveCall } from './generate-call.ts'
import type { GenerateCall, GenerateDefaults } from './generate-call.ts'
import type { CallState, GenerateParams, ParamLimits, StepTensors } from './generate-params.ts'
import { checkParams, expectDims } from './generate-params.ts'
import type { GenerateResult } from './generate-result.ts'
import { readDefaults } from './generation-defaults.ts'
import { embedCached } from './cached-prompts.ts'
import { calculateShift, guide, guideAwayFrom, unscaleLatents } from './guidance.ts'
import { loadSd3Components } from './load-components.ts'
import type { ComponentOverrides, LoadedComponents, Sd3Components } from './load-components.ts'
import { memoryNeeds } from './memory-needs.ts'
import { hashModelFolder } from './model-hash.ts'
import type { PromptEmbeddings } from './prompt-embeddings.ts'
import { resolveModel } from './presets.ts'
import type { ResolvedModel } from './presets.ts'
import { resumeAt } from './resume.ts'

export interface FromPretrainedOptions {
  /** Where the model runs. Default 'auto'. */
  readonly device?: Device
  /** Index of the GPU, from 0. Default 0. */
  readonly deviceId?: number
  /** Precision to insist on; graphs of another one are refused. Default: whatever the graphs have. */
  readonly dtype?: TensorDtype
  /** Parts to use instead of the folder's; null leaves an optional one out. They stay open when the pipeline is closed. Default none. */
  readonly components?: ComponentOverrides
  /** Threads of one run on the CPU, from 1. Default: one for each physical core that the process may use. */
  readonly intraOpNumThreads?: number
  /** How requests share the model. A transformer given in `components` keeps its own limit and policy. Default: see each field. */
  readonly batching?: BatchingOptions
  /** Folder in which preset names and bare names are looked up. Default 'models'. */
  readonly modelsDir?: string
}

/** Rows for the transformer; with guidance on, the negative ones first. */
interface Embeddings {
  /** Of each of rows or 2 × rows, (1, tokens, joint_attention_dim); the prompt cache's own or copies: nobody writes to them. */
  embeds: readonly Tensor[]
  /** (1, pooled_projection_dim) */
  pooled: readonly Tensor[]
}

export class StableDiffusion3Pipeline implements CallState {
  transformer: Sd3Transformer
  transformerSkip: Sd3Transformer | undefined
  vae: AutoencoderKL
  textEncoder: ClipTextEncoder | undefined
  textEncoder2: ClipTextEncoder | undefined
  textEncoder3: T5TextEncoder | undefined
  tokenizer: Tokenizer | undefined
  tokenizer2: Tokenizer | undefined
  tokenizer3: Tokenizer | undefined
  scheduler: Scheduler
  /** May be wrapped in a lock, hence the promise. */
  imageProcessor: { postprocess(sample: Tensor): Rgb8Image[] | Promise<Rgb8Image[]> } = new VaeImageProcessor()

  /** Where the model came from. */
  readonly model: ResolvedModel
  /** Where it runs, and why there. */
  readonly device: ResolvedDevice
  /** What a call uses for parameters it does not give. */
  readonly defaults: GenerateDefaults
  readonly owned: LoadedComponents['owned']
  /** Shared by all views of this pipeline. */
  readonly engine: Engine
  hash: Promise<string> | undefined
  /** Folder for what outlives the process. */
  readonly cacheDir: string | undefined
  closing: Promise<void> | undefined

  // State of the call in progress.
  _guidanceScale = 1
  _interrupt = false
  _numTimesteps = 0

  constructor(
    loaded: LoadedComponents,
    model: ResolvedModel,
    device: ResolvedDevice,
    defaults: GenerateDefaults,
    batching: BatchingOptions = {},
  ) {
    const { components, owned } = loaded
    this.transformer = components.transformer
    this.transformerSkip = components.transformerSkip
    this.vae = components.vae
    this.textEncoder = components.textEncoder
    this.textEncoder2 = components.textEncoder2
    this.textEncoder3 = components.textEncoder3
    this.tokenizer = components.tokenizer
    this.tokenizer2 = components.tokenizer2
    this.tokenizer3 = components.tokenizer3
    this.scheduler = components.scheduler
    this.owned = owned
    this.model = model
    this.device = device
    this.defaults = defaults
    this.cacheDir = batching.cacheDir
    this.engine = new Engine(this.transformer.batcher, batching)
  }

  /** `model`: path of a model folder, a preset name, or a name in modelsDir. */
  static async fromPretrained(model: string, options: FromPretrainedOptions = {}): Promise<StableDiffusion3Pipeline> {
    const dtype = options.dtype as string | undefined
    if (dtype !== undefined && dtype !== 'float32' && dtype !== 'float16')
      throw new TypeError(
        `Expected dtype to be float32 or float16, got ${dtype}${dtype.startsWith('b') ? ' (ONNX Runtime for Node has no bfloat16 tensors)' : ''}`,
      )
    const resolved = resolveModel(model, options.modelsDir)
    const defaultsOfModel = await readDefaults(resolved)
    const device = await resolveDevice(options.device, options.deviceId)
    const { deviceId, intraOpNumThreads = defaultCpuThreads() } = options
    const session = { provider: device.provider, deviceId, intraOpNumThreads }
    const loaded = await loadSd3Components(resolved.folder, session, options.components, options.batching)
    const { transformer, vae } = loaded.components
    if (dtype !== undefined && transformer.dtype !== dtype) {
      await Promise.all(loaded.owned.map((part) => part.release()))
      throw new TypeError(
        `Expected a model of dtype ${dtype}, got ${transformer.dtype} in ${resolved.folder}; the export decides the precision`,
      )
    }
    const side = transformer.config.sample_size * vae.scale
    let pipe: StableDiffusion3Pipeline
    try {
      pipe = new StableDiffusion3Pipeline(loaded, resolved, device, { width: side, height: side, ...defaultsOfModel }, options.batching)
    } catch (error) {
      await Promise.all(loaded.owned.map((part) => part.release()))
      throw error
    }
    try {
      checkParams({ prompt: '', ...pipe.defaults }, pipe.limits)
    } catch (error) {
      await pipe.close()
      throw new Error(`${join(resolved.folder, 'generation_config.json')}: ${(error as Error).message}`, { cause: error })
    }
    const cacheDir = options.batching?.cacheDir
    if (cacheDir !== undefined)
      pipe.engine.keepStepTimes(cacheDir, async () => [
        await pipe.modelHash(),
        device.provider,
        deviceId,
        intraOpNumThreads,
        await readGpuNames(device.provider),
        await runtimeVersion(),
      ])
    return pipe
  }

  get components(): Sd3Components {
    const { transformer, transformerSkip, vae, scheduler } = this
    const { textEncoder, textEncoder2, textEncoder3, tokenizer, tokenizer2, tokenizer3 } = this
    return { transformer, transformerSkip, vae, scheduler, textEncoder, textEncoder2, textEncoder3, tokenizer, tokenizer2, tokenizer3 }
  }

  /** What calls to this model are checked against. */
  get limits(): ParamLimits {
    const { patch_size, pos_embed_max_size } = this.transformer.config
    const sizeMultiple = this.vae.scale * patch_size
    return {
      sizeMultiple,
      maxSide: sizeMultiple * pos_embed_max_size,
      maxSequenceLength: 512,
      maxClipSkip: Math.min(this.textEncoder?.maxClipSkip ?? Infinity, this.textEncoder2?.maxClipSkip ?? Infinity),
      skipLayers: this.transformerSkip?.config.skip_layers,
    }
  }

  get guidanceScale(): number {
    return this._guidanceScale
  }

  get numTimesteps(): number {
    return this._numTimesteps
  }

  get doClassifierFreeGuidance(): boolean {
    return this._guidanceScale > 1
  }

  /** Hash of everything in the model folder that decides a picture. Reads all weights, once. */
  modelHash(): Promise<string> {
    this.hash ??= hashModelFolder(this.model.folder, this.cacheDir)
    return this.hash
  }

  /** Reads the negative prompt of all requests that name none, so that the first one finds it too. Nothing where there is no text encoder. */
  async warmUp(): Promise<void> {
    if (this.textEncoder === undefined || this.textEncoder2 === undefined) return
    const { maxSequenceLength } = this.defaults
    const options = { clipSkip: 0, maxSequenceLength, jointAttentionDim: this.transformer.config.joint_attention_dim }
    await embedCached(this, { prompt: [''], prompt2: [''], prompt3: [''] }, options)
  }

  /** What the engine has done so far and what it is at. */
  engineStats(): EngineStats {
    return this.engine.stats
  }

  /** Releases the sessions this pipeline loaded, after their current runs. Twice is harmless; later calls fail with ClosedError. */
  close(): Promise<void> {
    this.closing ??= this.release()
    return this.closing
  }

  async release(): Promise<void> {
    await Promise.all(this.owned.map((part) => part.release()))
    await this.engine.close()
  }

  async generate(params: GenerateParams): Promise<GenerateResult> {
    if (this.closing !== undefined) throw new ClosedError(`Expected an open pipeline of ${this.model.folder}, got one that has been closed`)
    const call = resolveCall(params, this.defaults, this.limits)
    const generator = call.generator ?? new Generator(call.seed ?? randomInt(2 ** 32))
    call.signal?.throwIfAborted()

    const giveBack = await this.engine.memory.admit(memoryNeeds(this, call, this.latentDims(call)), call.signal)
    try {
      return await this.run(call, generator)
    } finally {
      giveBack()
    }
  }

  /** The call, once there is memory for it. */
  async run(call: GenerateCall, generator: Generator | readonly Generator[]): Promise<GenerateResult> {
    // 1. State of the call
    this._guidanceScale = call.guidanceScale
    this._interrupt = false

    // 2. Text
    const startedAt = performance.now()
    const embeddings = await this.encodePrompt(call)
    const encodedAt = performance.now()
    this.engine.counters.encodeMs += encodedAt - startedAt

    // 3. Schedule
    const timesteps = this.prepareTimesteps(call)

    // 4. Latents
    const first = call.resume?.step ?? 0
    const latents =
      call.resume === undefined
        ? this.prepareLatents(call, generator, commonDtype(embeddings.embeds))
        : resumeAt(call.resume, {
            generators: generator instanceof Generator ? [generator] : generator,
            drawsNoise: (this.scheduler.config as Partial<FlowMatchEulerDiscreteConfig>).stochasticSampling === true,
            steps: timesteps.length,
            latentDims: this.latentDims(call),
          })
    // Said outright, as a timestep does not tell its place where own sigmas repeat. After the last step there is nothing to begin.
    if (first < timesteps.length) this.scheduler.setBeginIndex(first)

    // 5. Steps
    const denoised = await this.denoise(call, { timesteps, first, latents, embeddings, generator })
    const denoisedAt = performance.now()

    // 6. Pictures
    call.signal?.throwIfAborted()
    const images = call.outputType === 'latent' ? [] : await this.decodeLatents(denoised, call.signal)
    const decodeMs = performance.now() - denoisedAt
    this.engine.counters.decodeMs += decodeMs
    return {
      images,
      latents: call.outputType === 'latent' ? denoised : undefined,
      seed: seedOf(generator),
      timings: { encodeMs: encodedAt - startedAt, denoiseMs: denoisedAt - encodedAt, decodeMs },
    }
  }

  /** Embeddings of all rows, each prompt repeated for its pictures; with guidance on, the negative rows first. */
  async encodePrompt(call: GenerateCall): Promise<Embeddings> {
    const { joint_attention_dim, pooled_projection_dim } = this.transformer.config
    const options = { maxSequenceLength: call.maxSequenceLength, jointAttentionDim: joint_attention_dim, signal: call.signal }
    const positive = copyOf(call.embeddings) ?? (await embedCached(this, call.texts, { ...options, clipSkip: call.clipSkip }))
    expectDims('promptEmbeds', positive.embeds, [call.batch, positive.embeds.dims[1] ?? 0, joint_attention_dim])
    expectDims('pooledPromptEmbeds', positive.pooled, [call.batch, pooled_projection_dim])
    const embeds = splitRows(positive.embeds, call.numImagesPerPrompt)
    const pooled = splitRows(positive.pooled, call.numImagesPerPrompt)
    const [start, stop] = call.guidanceInterval
    if (!this.doClassifierFreeGuidance || start >= stop) return { embeds, pooled }
    // The negative prompt never skips CLIP layers.
    const negative = copyOf(call.negativeEmbeddings) ?? (await embedCached(this, call.negativeTexts, { ...options, clipSkip: 0 }))
    expectDims('negativePromptEmbeds', negative.embeds, positive.embeds.dims)
    expectDims('negativePooledPromptEmbeds', negative.pooled, positive.pooled.dims)
    return {
      embeds: [...splitRows(negative.embeds, call.numImagesPerPrompt), ...embeds],
      pooled: [...splitRows(negative.pooled, call.numImagesPerPrompt), ...pooled],
    }
  }

  /** Sets the scheduler to the call's schedule and returns its timesteps. */
  prepareTimesteps(call: GenerateCall): Float32Array {
    const config: Partial<FlowMatchEulerDiscreteConfig> = this.scheduler.config
    let mu = call.mu
    if (config.useDynamicShifting === true && mu === undefined) {
      const patches = (call.height / this.limits.sizeMultiple) * (call.width / this.limits.sizeMultiple)
      const { baseImageSeqLen = 256, maxImageSeqLen = 4096, baseShift = 0.5, maxShift = 1.16 } = config
      mu = calculateShift(patches, baseImageSeqLen, maxImageSeqLen, baseShift, maxShift)
    }
    const steps = call.sigmas === undefined ? call.numInferenceSteps : undefined
    const [timesteps] = retrieveTimesteps(this.scheduler, steps, {
      ...(call.sigmas === undefined ? {} : { sigmas: call.sigmas }),
      ...(mu === undefined ? {} : { mu }),
    })
    this._numTimesteps = timesteps.length
    return timesteps
  }

  /** The given latents, or noise: (rows, channels, height / 8, width / 8). */
  prepareLatents(call: GenerateCall, generator: Generator | readonly Generator[], dtype: TensorDtype): Tensor {
    const dims = this.latentDims(call)
    if (call.latents === undefined) return randnTensor(dims, generator, dtype)
    expectDims('latents', call.latents, dims)
    if (call.latents.dtype === dtype) return call.latents
    return new Tensor(dtype === 'float16' ? call.latents.data.map(roundToFloat16) : call.latents.data, dims, dtype)
  }

  /** The steps from `first` on. */
  async denoise(
    call: GenerateCall,
    start: { timesteps: Float32Array; first: number; latents: Tensor; embeddings: Embeddings; generator: Generator | readonly Generator[] },
  ): Promise<Tensor> {
    let { latents } = start
    let { embeds, pooled } = start.embeddings
    for (let step = start.first; step < start.timesteps.length; step++) {
      call.signal?.throwIfAborted()
      if (this._interrupt) continue
      const timestep = start.timesteps[step] as number
      const noise = await this.predictNoise(call, latents, step, timestep, { embeds, pooled })
      latents = this.scheduler.step(noise, timestep, latents, { generator: start.generator }).prevSample
      if (call.callbackOnStepEnd === undefined) continue
      const show = { latents: () => latents, promptEmbeds: () => concatRows(embeds), pooledPromptEmbeds: () => concatRows(pooled) }
      const shown: StepTensors = Object.fromEntries(call.callbackOnStepEndTensorInputs.map((name) => [name, show[name]()]))
      const replaced = (await call.callbackOnStepEnd(this, step, timestep, shown)) ?? {}
      if (replaced.latents !== undefined) latents = replacement('latents', replaced.latents, [latents])
      if (replaced.promptEmbeds !== undefined) embeds = splitRows(replacement('promptEmbeds', replaced.promptEmbeds, embeds))
      if (replaced.pooledPromptEmbeds !== undefined)
        pooled = splitRows(replacement('pooledPromptEmbeds', replaced.pooledPromptEmbeds, pooled))
    }
    return latents
  }

  /** The velocity to step along: dims of latents. */
  async predictNoise(call: GenerateCall, latents: Tensor, step: number, timestep: number, embeddings: Embeddings): Promise<Tensor> {
    const hidden = splitRows(latents)
    const rows = hidden.length
    const guided = this.isGuided(call, step)
    const all = [...(guided ? hidden : []), ...hidden].map((hiddenStates, row, { length }): StepRow => {
      // The rows of the prompt come last.
      const from = embeddings.embeds.length - length + row
      const [encoderHiddenStates, pooledProjections] = [embeddings.embeds[from] as Tensor, embeddings.pooled[from] as Tensor]
      return { hiddenStates, timestep, encoderHiddenStates, pooledProjections }
    })
    const context = { arrivedAtMs: call.arrivedAtMs, remainingRows: this.remainingRows(call, step, rows), signal: call.signal }
    const prediction = await this.transformer.forward(all, context)
    if (!guided) return prediction
    const cond = sliceRows(prediction, rows, rows * 2)
    const noise = guide(sliceRows(prediction, 0, rows), cond, this._guidanceScale)
    const { transformerSkip, _numTimesteps: steps } = this
    const skip = call.skipLayerGuidance
    if (skip === undefined || transformerSkip === undefined || step <= steps * skip.start || step >= steps * skip.stop) return noise
    const skipped = await transformerSkip.forward(all.slice(rows), { ...context, remainingRows: rows })
    return guideAwayFrom(noise, cond, skipped, skip.scale)
  }

  /** Whether the step runs the negative rows too. */
  isGuided(call: GenerateCall, step: number): boolean {
    const [start, stop] = call.guidanceInterval
    const share = step / this._numTimesteps
    return this.doClassifierFreeGuidance && start <= share && share < stop
  }

  /** Rows for the transformer from this step to the last. */
  remainingRows(call: GenerateCall, step: number, rows: number): number {
    let remaining = 0
    for (let at = step; at < this._numTimesteps; at++) remaining += this.isGuided(call, at) ? rows * 2 : rows
    return remaining
  }

  /** One picture per row, one row at a time: the VAE needs far more memory than the steps, and messages get in between. */
  async decodeLatents(latents: Tensor, signal?: AbortSignal): Promise<Rgb8Image[]> {
    const { scaling_factor, shift_factor } = this.vae.config
    const images: Rgb8Image[] = []
    for (let row = 0; row < rowsOf(latents); row++) {
      signal?.throwIfAborted()
      const own = unscaleLatents(sliceRows(latents, row, row + 1), scaling_factor, shift_factor)
      const pixels = (own.numel * this.vae.scale ** 2) / this.vae.config.latent_channels
      const around = <T>(run: () => Promise<T>): Promise<T> => this.engine.memory.measure('decode', pixels, run)
      const decoding = this.engine.withMemory('decoding one picture', () => this.vae.decode(own, { signal, around }))
      const sample = await untilAborted(decoding, signal)
      images.push(...(await this.imageProcessor.postprocess(sample)))
    }
    return images
  }

  latentDims(call: GenerateCall): number[] {
    const { scale } = this.vae
    return [call.batch * call.numImagesPerPrompt, this.transformer.config.in_channels, call.height / scale, call.width / scale]
  }
}

/** The batcher tells rows apart by their memory, and callers may write to theirs. */
function copyOf(given: PromptEmbeddings | undefined): PromptEmbeddings | undefined {
  return given && { embeds: given.embeds.clone(), pooled: given.pooled.clone() }
}

/** A copy of what a step callback gave, in place of `parts` joined. */
function replacement(name: string, replaced: unknown, parts: readonly Tensor[]): Tensor {
  if (!(replaced instanceof Tensor)) throw new TypeError(`Expected ${name} of callbackOnStepEnd to be a Tensor, got ${typeof replaced}`)
  const [rows, ...tail] = (parts[0] as Tensor).dims as [number, ...number[]]
  expectDims(`${name} of callbackOnStepEnd`, replaced, [rows * parts.length, ...tail])
  return replaced.clone()
}

function seedOf(generator: Generator | readonly Generator[]): number {
  const first = generator instanceof Generator ? generator : (generator[0] as Generator)
  const seed = first.initialSeed
  return Number(seed <= BigInt(Number.MAX_SAFE_INTEGER) ? seed : BigInt.asUintN(32, seed))
}
