/**
 * The messages between the worker's main process (parent) and the engine process (child), sent as structured clones over Node's IPC
 * channel. Types only.
 *
 *   parent ─► child   generate, cancel, checkpoint, stats, stop
 *   child ─► parent   ready or load_failed once, and load_failed later if the model's files have changed; hashed once if ready came without
 *                     the hash; step after every run of the transformer, unit after every other run; for each generate: progress and
 *                     preview 0…n times, then image n times and done, or error; checkpoint and stats as answers
 *
 * Messages in one direction arrive in the order in which they were sent, so a checkpoint asked for before a cancel is answered before the
 * call ends.
 */
import type { JobInput } from '@easel/contract'
import type { InputPixels } from '@easel/input-pictures'
import type { GenerateParams, GeneratorState, RuntimeStats, TensorDtype, UsedLora } from '@easel/pipeline'

/** Turns `num_inference_steps` into `numInferenceSteps`. */
type CamelCase<Text extends string> = Text extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<CamelCase<Tail>>}` : Text

/** The fields of a job's input that are not parameters of the library: the engine gets them only as part of `start`, or not at all. */
export type FieldElsewhere = {
  [Field in keyof JobInput]-?: CamelCase<Field> extends keyof GenerateParams ? never : Field
}[keyof JobInput]

/**
 * Which pictures to make: all other fields of the job's input, in the library's spelling. Nothing is left to a default, so every run with the
 * same parameters makes the same bytes. Image i is drawn from seed + i and equals the picture that this seed gives alone.
 */
export type EngineParams = {
  readonly [Field in keyof Omit<JobInput, FieldElsewhere> as CamelCase<Field>]: JobInput[Field]
} & {
  /** Absent when the call starts from noise alone. */
  readonly start?: StartFromPicture | undefined
}

/** Both have the call's width × height. */
export interface StartFromPicture {
  /** RGB. */
  readonly image: InputPixels
  /** Grey; pixels from 128 up are painted. Absent when everything is painted. */
  readonly mask?: InputPixels | undefined
  /** The fraction of the steps that are run, above 0 and up to 1. */
  readonly strength: number
}

/** The point from which an interrupted call continues. Plain data. */
export interface Checkpoint {
  /** The number of steps done. */
  readonly step: number
  /** (images, channels, height / 8, width / 8) after these steps. */
  readonly latents: { readonly data: Float32Array; readonly dims: readonly number[]; readonly dtype: TensorDtype }
  /** One for each image; only for a scheduler that draws noise at every step. */
  readonly generatorState?: readonly GeneratorState[] | undefined
}

/** What the engine process gets at its start, as JSON in its first argument. */
export interface EngineOptions {
  /** The path of a folder, the name of a preset, or a name under modelsDir. */
  readonly model: string
  readonly modelsDir: string
  /** A diffusers folder for parts that the model lacks, given like a model; absent for none. */
  readonly modelParts?: string | undefined
  /** How weights are held on the CPU: 'packed', 'mapped' or 'auto'. Absent: 'auto'. */
  readonly weights?: 'packed' | 'mapped' | 'auto'
  /** 'off' omits the T5 encoder. Absent: 'auto', which loads it where the model has one. */
  readonly textEncoder3?: 'auto' | 'off'
  /** The folder of LoRAs; absent for none. */
  readonly lorasDir?: string | undefined
  readonly device: string
  /** The most rows in one run of the transformer. Absent: chosen by measurement. */
  readonly maxBatchRows?: number | undefined
  /** Whose rows go first. Default 'fair'. */
  readonly batchPolicy?: 'fair' | 'srpt' | 'fcfs' | undefined
  /** The folder in which measurements are kept between starts; absent for none. */
  readonly cacheDir?: string | undefined
  /** When the process has more resident memory than this many bytes, further calls wait; absent for no limit. */
  readonly memoryLimitBytes?: number | undefined
}

/** What the loaded model is and accepts. */
export interface EngineCapabilities {
  readonly modelId: string
  /** sha256 over the model's files, in hex. Absent while it is being computed. */
  readonly contentHash?: string | undefined
  readonly pipelineClass: string
  /** The name and version of the runtime that runs the graphs. */
  readonly runtime: string
  readonly provider: string
  /** Why this provider was chosen. */
  readonly providerReason: string
  /** The graph of each part: 'onnx', or for example 'easel float32 packed'. */
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
  /** Example prompts that show what the model is good at. */
  readonly examples?: readonly string[]
  readonly limits: {
    readonly sizeMultiple: number
    readonly maxSide: number
    readonly maxSequenceLength: number
    readonly maxClipSkip: number
    /** The number of layers that can be skipped; 0 where the graph does not support it. */
    readonly layers: number
  }
  /** Whether calls may start from a picture. */
  readonly hasVaeEncoder: boolean
  /** The LoRAs that calls may name, as of when the model was loaded. */
  readonly loras: readonly string[]
  /** How many milliseconds the process took to get ready. */
  readonly loadMs: number
}

export interface EngineStats {
  /** The engine process's own memory: what is resident, without mapped files. */
  readonly memoryBytes: number
  /** The number of running calls. */
  readonly active: number
  /** The measured cost of one step of one default-sized image in milliseconds; null before the first. */
  readonly stepMs: number | null
  /** Measured milliseconds to encode the texts of one default-sized image and to decode it; null before the first picture. */
  readonly pictureMs: number | null
  /** The LoRAs that calls may name now. */
  readonly loras: readonly string[]
  /** The pipeline's own counts: runs, rows, waits, measured times, prompt cache, memory admission. */
  readonly pipeline: RuntimeStats
}

/** Milliseconds. */
export interface EngineTimings {
  readonly encodeMs: number
  readonly denoiseMs: number
  readonly decodeMs: number
  /** Device time of the steps: the call's part of every run, in proportion to its rows. */
  readonly deviceMs: number
}

/** One run of the transformer. */
export interface EngineStep {
  /** The number of rows in it, of all calls. */
  readonly rows: number
  readonly durationMs: number
  /** The longest wait of a call for this run. */
  readonly waitMs: number
}

export type EngineErrorCode =
  | 'engine_crashed'
  | 'engine_hung'
  | 'out_of_memory'
  | 'not_finite'
  | 'canceled'
  | 'closed'
  | 'load_failed'
  | 'internal'

/** One of the owners among whom the device is shared. */
export interface CallOwner {
  readonly name: string
  /** Its relative share of the device when several have calls running, above 0. */
  readonly weight: number
}

export type ToEngine =
  | {
      readonly type: 'generate'
      readonly id: string
      readonly params: EngineParams
      readonly resume?: Checkpoint | undefined
      /** The owner of the call; undefined for the one that all such calls share. */
      readonly owner?: CallOwner | undefined
      /** The number of steps between previews; undefined for none. */
      readonly previewEvery?: number | undefined
    }
  | { readonly type: 'cancel'; readonly id: string }
  | { readonly type: 'checkpoint'; readonly id: string }
  | { readonly type: 'stats' }
  | { readonly type: 'stop' }

export type FromEngine =
  /** Here and below, memoryBytes is the engine process's own memory. */
  | { readonly type: 'ready'; readonly capabilities: EngineCapabilities; readonly memoryBytes: number }
  /** The model's hash, and how long it took. */
  | { readonly type: 'hashed'; readonly contentHash: string; readonly durationMs: number }
  | { readonly type: 'load_failed'; readonly message: string }
  | ({ readonly type: 'step' } & EngineStep)
  /** A text was encoded, or a picture encoded or decoded. */
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
  /** The checkpoint is absent when the call is unknown or has not begun its steps. */
  | { readonly type: 'checkpoint'; readonly id: string; readonly checkpoint?: Checkpoint | undefined }
  | { readonly type: 'stats'; readonly stats: EngineStats }

/** 8-bit RGB, rows from the top. */
export interface EngineImage {
  /** The index of the image in the call, from 0. */
  readonly index: number
  /** Pixels. */
  readonly width: number
  /** Pixels. */
  readonly height: number
  /** width × height × 3 bytes. */
  readonly rgb: Uint8Array
}
