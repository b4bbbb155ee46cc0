/**
 * One engine process as its parent sees it: starts it, exchanges messages with it, tells it to stop or kills it. Runs in the worker's main
 * process.
 *
 * Invariants: a call that was given to the process settles exactly once. When the process dies, every call in it rejects with `engine_crashed`, or
 * with `engine_hung` when it was killed because it showed no sign of work, or with `closed` when it had been told to stop.
 *
 * Silence: while it loads its model, the process must be seen to work (LoadWatch). While a call is in it, it must report what it has done (a step,
 * a text, an image, an end); SilenceWatch judges how long it may take over that.
 *
 * Knows nothing about what came before this process or will come after it.
 */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { settle } from '@easel/process'
import { EngineError } from './engine.ts'
import type { EngineCallOptions, EngineResult } from './engine.ts'
import type {
  Checkpoint,
  EngineCapabilities,
  EngineErrorCode,
  EngineImage,
  EngineOptions,
  EngineParams,
  EngineStats,
  EngineStep,
  FromEngine,
  ToEngine,
} from './protocol.ts'
import { LoadWatch } from './load-watch.ts'
import { silentTicks, SilenceWatch } from './silence-watch.ts'

export interface EngineProcessOptions {
  /** The number of this process of the engine, from 1. */
  number: number
  /** The module that the process runs. */
  entry: string
  engine: EngineOptions
  /** The longest silence without visible work before it counts as hung, in milliseconds for each image of the largest call. */
  stepTimeoutMs: number
  /** The longest time without visible work, in milliseconds, before it counts as hung while it loads its model. */
  loadTimeoutMs: number
  /** Called repeatedly while it loads and shows no sign of work, with the milliseconds since the last sign. */
  onSilentLoad: (silentMs: number) => void
  /** Called when the model is loaded. */
  onReady: (ready: { capabilities: EngineCapabilities; memoryBytes: number }) => void
  /** Called with the hash of a model that was ready without it. */
  onHashed: (hashed: { contentHash: string; durationMs: number }) => void
  /** Called when the model cannot be loaded; the process then ends. */
  onLoadFailed: (message: string) => void
  /** Called for every run of the transformer. */
  onStep: (step: EngineStep) => void
  /** Called when a call has ended, well or not, with the memory of the process at that moment. */
  onCallEnd: (memoryBytes: number) => void
  /** Called when it shows no sign of work and is killed; `about` describes the calls in it. */
  onHung: (about: string[]) => void
  /** Called before its calls reject, so that a caller that retries immediately finds the new state. */
  onExit: (how: string, about: string[]) => void
}

interface Answer<T> {
  resolve: (value: T) => void
  reject: (error: EngineError) => void
}

interface Call extends Answer<EngineResult> {
  readonly about: string
  readonly options: EngineCallOptions
  readonly images: EngineImage[]
  readonly numImages: number
}

/** How many milliseconds a process that was told to stop may take before it is killed. */
const stopLimitMs = 1000

export class EngineProcess {
  readonly number: number
  readonly #options: EngineProcessOptions
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  readonly #calls = new Map<string, Call>()
  readonly #checkpoints = new Map<string, Answer<Checkpoint | undefined>[]>()
  readonly #killAtExit = (): void => void this.#child.kill('SIGKILL')
  #stats: Answer<EngineStats>[] = []
  /** Until its model is loaded, and its hash is known. */
  readonly #load: LoadWatch
  #silenceTimer: NodeJS.Timeout | undefined
  #silence: SilenceWatch | undefined
  #callsGiven = 0
  #end: 'engine_crashed' | 'engine_hung' | 'closed' = 'engine_crashed'

  constructor(options: EngineProcessOptions) {
    this.number = options.number
    this.#options = options
    this.#child = fork(options.entry, [JSON.stringify(options.engine)], {
      serialization: 'advanced',
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child.on('message', (message) => this.#receive(message as FromEngine))
    // `exit` reports this too.
    this.#child.on('error', () => {})
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#exit(signal ?? `exit code ${code}`)
        resolve()
      })
    })
    process.once('exit', this.#killAtExit)
    const { loadTimeoutMs: timeoutMs, onSilentLoad: onSilence } = options
    this.#load = new LoadWatch({ pid: this.pid, timeoutMs, onSilence, onHung: () => this.#killHung() })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Whether it has been given a call yet. */
  get isUsed(): boolean {
    return this.#callsGiven > 0
  }

  /** `id` must differ from those of all other calls in it. Rejects with an EngineError. */
  async generate(id: string, params: EngineParams, options: EngineCallOptions): Promise<EngineResult> {
    if (this.#calls.has(id)) throw new EngineError('internal', `Expected an id that is not in the engine, got ${id}`)
    const { signal, resume, owner, previewEvery, about = id } = options
    const cancel = (): void => this.#send({ type: 'cancel', id })
    this.#callsGiven++
    try {
      return await new Promise<EngineResult>((resolve, reject) => {
        this.#calls.set(id, { about, options, images: [], numImages: params.numImagesPerPrompt, resolve, reject })
        signal?.addEventListener('abort', cancel, { once: true })
        this.#send({ type: 'generate', id, params, resume, owner, previewEvery })
      })
    } finally {
      signal?.removeEventListener('abort', cancel)
    }
  }

  /** Resolves to undefined when the call is not in this process or has not begun its steps. */
  async checkpoint(id: string): Promise<Checkpoint | undefined> {
    if (!this.#calls.has(id)) return undefined
    return await new Promise((resolve, reject) => {
      this.#checkpoints.set(id, [...(this.#checkpoints.get(id) ?? []), { resolve, reject }])
      this.#send({ type: 'checkpoint', id })
    })
  }

  async stats(): Promise<EngineStats> {
    return await new Promise((resolve, reject) => {
      this.#stats.push({ resolve, reject })
      this.#send({ type: 'stats' })
    })
  }

  /** Tells it to stop, and kills it when it does not. Resolves when it has ended, or cannot be ended. */
  async stop(): Promise<void> {
    this.#end = 'closed'
    this.#send({ type: 'stop' })
    // It cannot answer during a native run, and the run's result is no longer needed.
    const impatience = setTimeout(() => this.#child.kill('SIGKILL'), stopLimitMs)
    // A process that waits for a dead mount may be stuck in the kernel for as long as the mount is dead.
    await settle(this.#exited, 2 * stopLimitMs)
    clearTimeout(impatience)
  }

  #send(message: ToEngine): void {
    // A closed channel is reported by `exit`, which settles everything.
    if (this.#child.connected) this.#child.send(message, () => {})
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'stats':
        if (this.#calls.size === 0) this.#silence?.rest()
        for (const { resolve } of this.#stats.splice(0)) resolve(message.stats)
        return
      case 'checkpoint': {
        const answers = this.#checkpoints.get(message.id) ?? []
        this.#checkpoints.delete(message.id)
        for (const { resolve } of answers) resolve(message.checkpoint)
        return
      }
      case 'ready':
        if (message.capabilities.contentHash !== undefined) this.#load.stop()
        this.#watchSilence(message.capabilities.provider === 'cpu')
        this.#options.onReady(message)
        return
      case 'hashed':
        this.#load.stop()
        this.#options.onHashed(message)
        return
      case 'load_failed':
        this.#options.onLoadFailed(message.message)
        return
      case 'unit':
        this.#silence?.hear()
        return
      case 'step':
        this.#silence?.hear()
        this.#options.onStep(message)
        return
      case 'progress':
      case 'preview':
      case 'image':
      case 'done':
      case 'error':
        this.#silence?.hear()
        this.#receiveOfCall(message)
    }
  }

  #receiveOfCall(message: Extract<FromEngine, { type: 'progress' | 'preview' | 'image' | 'done' | 'error' }>): void {
    const call = this.#calls.get(message.id)
    if (call === undefined) return
    switch (message.type) {
      case 'progress':
        call.options.onProgress?.(message.step, message.total)
        return
      case 'preview':
        call.options.onPreview?.(message.step, toImage(message))
        return
      case 'image':
        call.images[message.index] = toImage(message)
        return
      case 'done':
        call.resolve({ images: call.images, loras: message.loras, timings: message.timings })
        break
      case 'error':
        call.reject(this.#toError(message.code, message.message))
    }
    this.#calls.delete(message.id)
    this.#options.onCallEnd(message.memoryBytes)
  }

  #watchSilence(isOnCpu: boolean): void {
    const tickMs = this.#options.stepTimeoutMs / silentTicks
    const silence = new SilenceWatch({ pid: this.pid, isOnCpu, tickMs })
    this.#silence = silence
    this.#silenceTimer = setInterval(() => {
      if (this.#calls.size + this.#stats.length === 0) silence.rest()
      else if (silence.tick(Math.max(1, ...[...this.#calls.values()].map(({ numImages }) => numImages)))) this.#killHung()
    }, tickMs)
  }

  #killHung(): void {
    clearInterval(this.#silenceTimer)
    this.#end = 'engine_hung'
    this.#options.onHung(this.#about())
    this.#child.kill('SIGKILL')
  }

  #exit(how: string): void {
    this.#load.stop()
    clearInterval(this.#silenceTimer)
    process.off('exit', this.#killAtExit)
    this.#options.onExit(how, this.#about())
    const error = this.#toError(this.#end, `The engine process ended (${how})`)
    for (const { reject } of [...this.#calls.values(), ...this.#stats.splice(0), ...[...this.#checkpoints.values()].flat()]) reject(error)
    this.#calls.clear()
    this.#checkpoints.clear()
  }

  #toError(code: EngineErrorCode, message: string): EngineError {
    return new EngineError(code, message, {
      alone: this.#calls.size === 1,
      first: this.#callsGiven === 1,
      processNumber: this.number,
    })
  }

  #about(): string[] {
    return [...this.#calls.values()].map(({ about }) => about)
  }
}

function toImage({ index, width, height, rgb }: EngineImage): EngineImage {
  return { index, width, height, rgb }
}
