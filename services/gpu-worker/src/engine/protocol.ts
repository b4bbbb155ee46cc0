/**
 * The messages between the worker's main process (parent) and the engine process (child), sent as structured clones over Node's IPC
 * channel. Types only.
 *
 *   parent ─► child   generate, cancel, checkpoint, stats, stop
 *   child ─► parent   ready or load_failed once; step after every run of the transformer, unit after every other run; for each generate: progress and preview 0…n
 *                     times, then image n times and done, or error; checkpoint and stats as answers
 *
 * Messages of one direction arrive in the order they were sent: a checkpoint asked for before a cancel is answered before the call ends.
 */
import type { InputPixels } from '@easel/input-pictures'
import type { EngineStats as PipelineStats, GeneratorState, TensorDtype, UsedLora } from '@easel/pipeline'

/** What picture to make. Everything is decided, so that every run of the same parameters makes the same bytes. */
export interface EngineParams {
  readonly prompt: string
  readonly prompt2?: string
  readonly prompt3?: string
  readonly negativePrompt: string
  readonly negativePrompt2?: string
  readonly negativePrompt3?: string
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
  readonly numInferenceSteps: number
  readonly sigmas?: readonly number[]
  readonly guidanceScale: number
  /** Part of the run in which guidance is on, fractions 0 to 1. */
  readonly guidanceInterval?: readonly [number, number]
  readonly skipGuidanceLayers?: readonly number[] | undefined
  readonly skipLayerGuidanceScale?: number | undefined
  readonly skipLayerGuidanceStart?: number | undefined
  readonly skipLayerGuidanceStop?: number | undefined
  readonly loras?: readonly { readonly id: string; readonly scale?: number | undefined }[] | undefined
  /** Image i is drawn from seed + i and is the picture that this seed gives alone. */
  readonly numImagesPerPrompt: number
  readonly seed: number
  readonly clipSkip?: number
  readonly maxSequenceLength: number
  /** Absent: the call starts from noise alone. */
  readonly start?: StartFromPicture
}

/** Both of the call's width × height. */
export interface StartFromPicture {
  /** RGB. */
  readonly image: InputPixels
  /** Grey: painted from 128 up. Absent: everything is. */
  readonly mask?: InputPixels
  /** Part of the steps that are run, above 0, up to 1. */
  readonly strength: number
}

/** Where an interrupted call goes on. Plain data. */
export interface Checkpoint {
  /** Steps that are done. */
  readonly step: number
  /** (images, channels, height / 8, width / 8) after them. */
  readonly latents: { readonly data: Float32Array; readonly dims: readonly number[]; readonly dtype: TensorDtype }
  /** One for each image; only with a scheduler that draws noise at every step. */
  readonly generatorState?: readonly GeneratorState[] | undefined
}

/** What the engine process is started with, as JSON in its first argument. */
export interface EngineOptions {
  /** Folder path, preset name, or a name under modelsDir. */
  readonly model: string
  readonly modelsDir: string
  /** A diffusers folder for parts that the model lacks, named as models are; absent: none. */
  readonly modelParts?: string | undefined
  /** How weights are held on the CPU: 'packed', 'mapped' or 'auto'. Absent: 'auto'. */
  readonly weights?: 'packed' | 'mapped' | 'auto'
  /** 'off' leaves the T5 encoder out. Absent: 'auto', loaded where the model has one. */
  readonly textEncoder3?: 'auto' | 'off'
  /** Folder of LoRAs; absent: none. */
  readonly lorasDir?: string | undefined
  readonly device: string
  /** Most rows in one run of the transformer; absent: measured. */
  readonly maxBatchRows?: number | undefined
  /** Whose rows go first. Default: 'fair'. */
  readonly batchPolicy?: 'fair' | 'srpt' | 'fcfs' | undefined
  /** Where measurements are kept between starts; absent: nowhere. */
  readonly cacheDir?: string | undefined
  /** Resident memory of the process past which further calls wait, bytes; absent: no limit. */
  readonly memoryLimitBytes?: number | undefined
  /** Content hash of the model, when it is known already: computing it reads every weight. */
  readonly contentHash?: string | undefined
}

/** What the loaded model is and takes. */
export interface EngineCapabilities {
  readonly modelId: string
  /** sha256 over the model's files, in hex. */
  readonly contentHash: string
  readonly pipelineClass: string
  /** Name and version of what runs the graphs. */
  readonly runtime: string
  readonly provider: string
  /** Why this provider. */
  readonly providerReason: string
  /** What runs each part: 'onnx', or as in 'easel float32 packed'. */
  readonly graphs: Readonly<Record<string, string>>
  /** How weights are held, and why. */
  readonly weights: string
  readonly weightsReason: string
  readonly scheduler: { readonly class: string; readonly config: Readonly<Record<string, unknown>> }
  readonly defaults: {
    readonly width: number
    readonly height: number
    readonly numInferenceSteps: number
    readonly guidanceScale: number
    readonly maxSequenceLength: number
  }
  /** Prompts that show what the model is good at. */
  readonly examples?: readonly string[]
  readonly limits: {
    readonly sizeMultiple: number
    readonly maxSide: number
    readonly maxSequenceLength: number
    readonly maxClipSkip: number
    /** Layers that can be left out; 0 where the graph cannot. */
    readonly layers: number
  }
  /** Whether calls may start from a picture. */
  readonly hasVaeEncoder: boolean
  /** LoRAs that calls may name, when it was loaded. */
  readonly loras: readonly string[]
  /** Milliseconds from the start of the process to ready. */
  readonly loadMs: number
}

export interface EngineStats {
  /** The engine process's own memory: what is resident, without files that are only mapped. */
  readonly memoryBytes: number
  /** Calls that are running. */
  readonly active: number
  /** Measured milliseconds that one step of one default-sized image costs; null before the first. */
  readonly stepMs: number | null
  /** LoRAs that calls may name now. */
  readonly loras: readonly string[]
  /** The pipeline's own counts: runs, rows, waits, measured times, prompt cache, memory admission. */
  readonly pipeline: PipelineStats
}

/** Milliseconds. */
export interface EngineTimings {
  readonly encodeMs: number
  readonly denoiseMs: number
  readonly decodeMs: number
  /** Of the device, for the steps: the call's part of every run by its rows. */
  readonly deviceMs: number
}

/** One run of the transformer. */
export interface EngineStep {
  /** Rows of all calls that took part. */
  readonly rows: number
  readonly durationMs: number
  /** Longest wait of a call for it. */
  readonly waitMs: number
}

export type EngineErrorCode = 'engine_crashed' | 'engine_hung' | 'out_of_memory' | 'canceled' | 'closed' | 'load_failed' | 'internal'

/** Whoever shares the device with other owners. */
export interface CallOwner {
  readonly name: string
  /** Share of the device when several have calls running, above 0. */
  readonly weight: number
}

export type ToEngine =
  | {
      readonly type: 'generate'
      readonly id: string
      readonly params: EngineParams
      readonly resume?: Checkpoint | undefined
      /** Whose call it is; undefined: one owner for all of these. */
      readonly owner?: CallOwner | undefined
      /** Send a preview every so many steps; undefined: none. */
      readonly previewEvery?: number | undefined
    }
  | { readonly type: 'cancel'; readonly id: string }
  | { readonly type: 'checkpoint'; readonly id: string }
  | { readonly type: 'stats' }
  | { readonly type: 'stop' }

export type FromEngine =
  /** memoryBytes here and below: the engine process's own memory. */
  | { readonly type: 'ready'; readonly capabilities: EngineCapabilities; readonly memoryBytes: number }
  | { readonly type: 'load_failed'; readonly message: string }
  | ({ readonly type: 'step' } & EngineStep)
  /** A text was read or a picture decoded. */
  | { readonly type: 'unit' }
  | { readonly type: 'progress'; readonly id: string; readonly step: number; readonly total: number }
  | ({ readonly type: 'preview'; readonly id: string; readonly step: number } & EngineImage)
  | ({ readonly type: 'image'; readonly id: string } & EngineImage)
  | {
      readonly type: 'done'
      readonly id: string
      readonly loras: readonly UsedLora[]
      readonly timings: EngineTimings
      readonly memoryBytes: number
    }
  | {
      readonly type: 'error'
      readonly id: string
      readonly code: EngineErrorCode
      readonly message: string
      readonly memoryBytes: number
    }
  /** Checkpoint absent: the call is not here, or has not begun its steps. */
  | { readonly type: 'checkpoint'; readonly id: string; readonly checkpoint?: Checkpoint | undefined }
  | { readonly type: 'stats'; readonly stats: EngineStats }

/** 8-bit RGB, rows from the top. */
export interface EngineImage {
  /** Which image of the call, from 0. */
  readonly index: number
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
  /** width × height × 3 bytes. */
  readonly rgb: Uint8Array
}
