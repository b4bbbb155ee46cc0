/**
 * Stable Diffusion 3: what is loaded, which parameters it takes, and `generate`, which makes one run (sd3-run.ts).
 *
 * Invariant: nothing here changes during a call, so one object may carry out any number of calls at the same time.
 * Knows nothing about jobs, queues or files of pictures. Runs in the engine process.
 */
import { join } from 'node:path'
import type { AutoencoderKL } from '../models/autoencoder-kl.ts'
import type { ClipTextEncoder } from '../models/clip-text-encoder.ts'
import { defaultCpuThreads } from '../models/cpu-threads.ts'
import { resolveDevice, type ResolvedDevice } from '../models/device.ts'
import type { Device } from '../models/devices.ts'
import { readGpuNames } from '../models/gpu-names.ts'
import { runtimeVersion } from '../models/onnx-runtime.ts'
import { ClosedError } from '../models/closed-error.ts'
import { explainDenied } from '../models/explain-denied.ts'
import type { LoadedFiles } from '../models/loaded-files.ts'
import type { WeightMode } from '../models/session-options.ts'
import type { Sd3Transformer } from '../models/sd3-transformer.ts'
import type { T5TextEncoder } from '../models/t5-text-encoder.ts'
import { Runtime } from '../runtime/runtime.ts'
import type { BatchingOptions } from '../runtime/runtime.ts'
import type { RuntimeStats } from '../runtime/runtime-stats.ts'
import { copyScheduler } from '../schedulers/copy-scheduler.ts'
import type { Scheduler } from '../schedulers/scheduler.ts'
import { VaeImageProcessor } from '../tensor/image-processor.ts'
import type { Rgb8Image } from '../tensor/image-processor.ts'
import type { Tensor, TensorDtype } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizers/tokenizer.ts'
import { decodeLatents } from './decode-latents.ts'
import { embedCached } from './embed-cached.ts'
import { resolveCall } from './generate-call.ts'
import type { GenerateCall, GenerateDefaults } from './generate-call.ts'
import { checkParams } from './check-params.ts'
import type { GenerateParams, ParamLimits } from './generate-params.ts'
import type { GenerateResult } from './generate-result.ts'
import { defaultSide, readDefaults } from './generation-defaults.ts'
import type { ModelDefaults } from './generation-defaults.ts'
import { loadSd3Components } from './load-components.ts'
import type { ComponentOverrides, LoadedComponents, Sd3Components } from './load-components.ts'
import { LoraStore } from './lora-store.ts'
import { hashModel, listFileSizes } from './model-hash.ts'
import type { ModelContent } from './model-hash.ts'
import { ModelSource } from './model-source.ts'
import type { GraphOrigin } from './prepare-graphs.ts'
import { resolveModel, type ResolvedModel } from './presets.ts'
import type { ResidentModel } from './resident-model.ts'
import { Sd3Run } from './sd3-run.ts'

export interface FromPretrainedOptions {
  /** Where the model runs. Default 'auto'. */
  readonly device?: Device
  /** Index of the GPU, from 0. Default 0. */
  readonly deviceId?: number
  /**
   * Precision of the transformer and the text encoders. Graphs exported in another precision are refused. Default: the precision of an
   * export; for weights float16 on GPUs, else float32.
   */
  readonly dtype?: TensorDtype
  /** Which weight files to use where a part has several sets, for example 'fp16'. Default: those without a variant, else the only ones. */
  readonly variant?: string
  /** How weights are held on the CPU. Default 'auto': 'packed', or 'mapped' where packed copies would not fit into memory. */
  readonly weights?: WeightMode | 'auto'
  /** Parts to use instead of the folder's; null omits an optional one. They stay open when the pipeline is closed. Default none. */
  readonly components?: ComponentOverrides
  /** Threads of one run on the CPU, from 1. Default: one for each physical core that the process may use. */
  readonly intraOpNumThreads?: number
  /** How requests share the model. Each field has its own default. */
  readonly batching?: BatchingOptions
  /** The folder in which preset names and bare names are looked up. Default 'models'. */
  readonly modelsDir?: string
  /** A diffusers folder for parts that the model lacks; a single file, for example, has no tokenizers. Default none. */
  readonly modelParts?: string
  /** The folder of LoRAs that calls may add to the transformer. Default none. */
  readonly lorasDir?: string
}

export class StableDiffusion3Pipeline implements ResidentModel {
  transformer: Sd3Transformer
  vae: AutoencoderKL
  textEncoder: ClipTextEncoder | undefined
  textEncoder2: ClipTextEncoder | undefined
  textEncoder3: T5TextEncoder | undefined
  tokenizer: Tokenizer | undefined
  tokenizer2: Tokenizer | undefined
  tokenizer3: Tokenizer | undefined
  /** Every run works on a copy of it. */
  scheduler: Scheduler
  imageProcessor = new VaeImageProcessor()

  /** Where the model came from. */
  readonly model: ResolvedModel
  /** Where it runs, and why there. */
  readonly device: ResolvedDevice
  /** Which graphs are used, in which precision, and how their weights are held. */
  readonly origin: GraphOrigin
  /** The files that the weights were loaded from. */
  readonly files: LoadedFiles
  /** What the model's hash covers. */
  readonly content: ModelContent
  /** The model's own values for parameters that a call does not give. */
  readonly modelDefaults: ModelDefaults
  /** What all requests share on the device. */
  readonly runtime: Runtime
  /** The LoRAs that calls may add to the transformer; undefined without a folder, and for an exported graph. */
  loras: LoraStore | undefined
  /** What lives as long as the weights; the same object in every view. */
  readonly life: {
    readonly owned: LoadedComponents['owned']
    /** The folder for hashes and measurements that outlive the process. */
    readonly cacheDir: string | undefined
    hash?: Promise<string>
    closing?: Promise<void>
  }

  constructor(
    loaded: LoadedComponents,
    model: ResolvedModel,
    device: ResolvedDevice,
    { defaults, content }: { defaults: ModelDefaults; content: ModelContent },
    batching: BatchingOptions = {},
  ) {
    const { components } = loaded
    this.transformer = components.transformer
    this.vae = components.vae
    this.textEncoder = components.textEncoder
    this.textEncoder2 = components.textEncoder2
    this.textEncoder3 = components.textEncoder3
    this.tokenizer = components.tokenizer
    this.tokenizer2 = components.tokenizer2
    this.tokenizer3 = components.tokenizer3
    this.scheduler = components.scheduler
    this.model = model
    this.device = device
    this.modelDefaults = defaults
    this.runtime = new Runtime(this.transformer, batching)
    this.origin = loaded.origin
    this.files = loaded.files
    this.content = content
    this.life = { owned: loaded.owned, cacheDir: batching.cacheDir }
  }

  /** `model`: path of a model folder, a preset name, or a name in modelsDir. */
  static async fromPretrained(model: string, options: FromPretrainedOptions = {}): Promise<StableDiffusion3Pipeline> {
    const dtype = options.dtype as string | undefined
    if (dtype !== undefined && dtype !== 'float32' && dtype !== 'float16')
      throw new TypeError(
        `Expected dtype to be float32 or float16, got ${dtype}${dtype.startsWith('b') ? ' (ONNX Runtime for Node has no bfloat16 tensors)' : ''}`,
      )
    const resolved = resolveModel(model, options)
    const source = await ModelSource.open(resolved, options.variant)
    const defaultsOfModel = await readDefaults(source, resolved.preset)
    const device = await resolveDevice(options.device, options.deviceId)
    const { deviceId, intraOpNumThreads = defaultCpuThreads(), batching } = options
    const session = { provider: device.provider, deviceId, intraOpNumThreads }
    const settings = {
      provider: device.provider,
      dtype: options.dtype,
      weights: options.weights,
      memoryLimitBytes: batching?.memoryLimitBytes,
      threads: intraOpNumThreads,
    }
    const loaded = await loadSd3Components(source, session, settings, options.components)
    try {
      const { transformer, vae } = loaded.components
      if (dtype !== undefined && loaded.origin.graphs.transformer === 'onnx' && transformer.dtype !== dtype)
        throw new TypeError(
          `Expected a model of dtype ${dtype}, got ${transformer.dtype} in ${resolved.folder}; the export decides the precision`,
        )
      const side = defaultSide(transformer.config, vae.scale)
      const content = source.content(options.components?.textEncoder3 === null ? ['without text_encoder_3'] : [])
      const defaults = { ...defaultsOfModel, width: defaultsOfModel.width ?? side, height: defaultsOfModel.height ?? side }
      const pipe = new StableDiffusion3Pipeline(loaded, resolved, device, { defaults, content }, batching)
      if (options.lorasDir !== undefined && transformer.loraTarget !== undefined) {
        pipe.loras = new LoraStore(options.lorasDir, transformer.loraTarget)
        await pipe.loras.refresh()
      }
      try {
        checkParams({ prompt: '', ...pipe.defaults }, pipe.limits)
      } catch (error) {
        throw new Error(`${join(resolved.folder, 'generation_config.json')}: ${(error as Error).message}`, { cause: error })
      }
      if (batching?.cacheDir !== undefined) {
        // The cost of a step depends on the graphs and the sizes of the weights; hashing the weights would take minutes.
        const [files, gpus, version] = [await listFileSizes(content), await readGpuNames(device.provider), await runtimeVersion()]
        await pipe.runtime.keepStepTimes(batching.cacheDir, [files, device.provider, deviceId, intraOpNumThreads, gpus, version])
      }
      return pipe
    } catch (error) {
      await Promise.all(loaded.owned.map((part) => part.release()))
      throw error
    }
  }

  /**
   * A pipeline of this class over the parts of another. It has the same weights, device and runtime, so rows of both share runs, and its own
   * scheduler. Closing either closes both.
   */
  static fromPipe<P extends StableDiffusion3Pipeline>(this: { readonly prototype: P }, pipe: StableDiffusion3Pipeline): P {
    const made = Object.assign(Object.create(this.prototype) as P, pipe)
    made.scheduler = copyScheduler(pipe.scheduler)
    return made
  }

  /** The number of steps where neither the call nor the model gives one. */
  get defaultSteps(): number {
    return 28
  }

  /** What a call uses for parameters that it does not give. */
  get defaults(): GenerateDefaults {
    const { examples: _examples, ...defaults } = this.modelDefaults
    return { ...defaults, numInferenceSteps: defaults.numInferenceSteps ?? this.defaultSteps }
  }

  /** Example prompts that show what the model is good at; empty when the model names none. */
  get examples(): readonly string[] {
    return this.modelDefaults.examples ?? []
  }

  get components(): Sd3Components {
    const { transformer, vae, scheduler } = this
    const { textEncoder, textEncoder2, textEncoder3, tokenizer, tokenizer2, tokenizer3 } = this
    return { transformer, vae, scheduler, textEncoder, textEncoder2, textEncoder3, tokenizer, tokenizer2, tokenizer3 }
  }

  get limits(): ParamLimits {
    const { patch_size, pos_embed_max_size } = this.transformer.config
    const sizeMultiple = this.vae.scale * patch_size
    return {
      sizeMultiple,
      maxSide: sizeMultiple * pos_embed_max_size,
      maxSequenceLength: 512,
      maxClipSkip: Math.min(this.textEncoder?.maxClipSkip ?? Infinity, this.textEncoder2?.maxClipSkip ?? Infinity),
      layers: this.transformer.layers,
      takesLoras: this.loras !== undefined,
    }
  }

  /** Makes pictures. Throws GenerateParamsError for what cannot be run. */
  async generate(params: GenerateParams): Promise<GenerateResult> {
    return await this.carryOut(() => resolveCall(params, this.defaults, this.limits))
  }

  /** `resolve` checks the parameters and fills in defaults. */
  async carryOut(resolve: () => GenerateCall): Promise<GenerateResult> {
    if (this.life.closing !== undefined)
      throw new ClosedError(`Expected an open pipeline of ${this.model.folder}, got one that has been closed`)
    return await new Sd3Run(this, resolve()).run()
  }

  /** A view for one request, whose parts may be replaced. Its scheduler is a copy; weights and runtime are this pipeline's. */
  cloneForRequest(): this {
    return (this.constructor as typeof StableDiffusion3Pipeline).fromPipe(this) as this
  }

  /** One picture for each row of latents, (rows, latent_channels, height / 8, width / 8). */
  decodeLatents(latents: Tensor, signal?: AbortSignal): Promise<Rgb8Image[]> {
    return decodeLatents(this, latents, signal)
  }

  /** The hash of everything in the model that decides a picture. Reads all weights, once. */
  modelHash(): Promise<string> {
    this.life.hash ??= this.hashLoaded()
    return this.life.hash
  }

  /** The hash of the files that were loaded. Throws if they have changed since. */
  async hashLoaded(): Promise<string> {
    const hash = await hashModel(this.content, this.life.cacheDir).catch((error: unknown) => explainDenied(error, 'MODEL', this.model.id))
    await this.files.assertSame()
    return hash
  }

  /**
   * Encodes the empty negative prompt, so that even the first request finds it in the cache. Does nothing where there is no text encoder, or
   * where weights are mapped: running a real model's encoders would read gigabytes of weights before anybody asks.
   */
  async warmUp(): Promise<void> {
    if (this.textEncoder === undefined || this.textEncoder2 === undefined || this.origin.weights === 'mapped') return
    const { maxSequenceLength } = this.defaults
    await embedCached(this, { prompt: [''], prompt2: [''], prompt3: [''] }, { clipSkip: 0, maxSequenceLength })
  }

  /** What the runtime has done so far and is doing now. */
  engineStats(): RuntimeStats {
    return this.runtime.stats
  }

  /** Releases the sessions that this pipeline loaded, after their current runs. May be called twice; later calls fail with ClosedError. */
  close(): Promise<void> {
    this.life.closing ??= this.release()
    return this.life.closing
  }

  async release(): Promise<void> {
    await Promise.all(this.life.owned.map((part) => part.release()))
    await this.runtime.close()
  }
}
