/**
 * Keeps one engine process alive. Runs in the worker's main process.
 *
 *   starting ── its model is loaded ──► serving ── it died ──► paused ── the pause is over ──► starting
 *      └────────── it died ──► paused      └── told to make room ──► replacing ── it is gone ──► starting
 *   any ── close ──► closing
 *
 * Invariants: only `#enter` changes the state, and it refuses any change that is not drawn above. A call is in the process, or waits for its
 * turn and for a serving process; calls that wait when a process dies continue in the next one. A new process is started immediately if the
 * last one had loaded its model, otherwise after a growing pause. Knows nothing about jobs; the caller decides which calls to retry.
 */
import { fileURLToPath } from 'node:url'
import { CallTurns } from './call-turns.ts'
import { EngineProcess } from './engine-process.ts'
import { EngineError } from './engine.ts'
import type { Engine, EngineCallOptions, EngineResult } from './engine.ts'
import { newPromise, orCanceled, toCanceled, toClosed, toHungLoad } from './engine-promises.ts'
import { MemoryWatermark } from './memory-watermark.ts'
import type { MemoryVerdict } from './memory-watermark.ts'
import type { Checkpoint, EngineCapabilities, EngineOptions, EngineParams, EngineStats, EngineStep } from './protocol.ts'

export interface EngineSupervisorOptions extends EngineOptions {
  /** The longest silence without visible work before the process counts as hung, in milliseconds for each image of the largest call. */
  stepTimeoutMs: number
  /** The longest time without visible work while a model is loaded, before the process counts as hung, in milliseconds. Default 600 000. */
  loadTimeoutMs?: number
  /** Called with what happens to the process. */
  onEvent?: (event: EngineEvent) => void
  /** Called for every run of the transformer. */
  onStep?: (step: EngineStep) => void
  /** The module that the process runs. Default: engine-main.ts. */
  entry?: string | undefined
}

/** `about` says what the calls in the process are for. */
export type EngineEvent =
  | { type: 'ready'; pid: number | undefined; capabilities: EngineCapabilities }
  | { type: 'hashed'; pid: number | undefined; contentHash: string; durationMs: number }
  | { type: 'silent_load'; pid: number | undefined; silentMs: number; limitMs: number }
  | { type: 'hung'; pid: number | undefined; about: string[] }
  | { type: 'died' | 'ended'; pid: number | undefined; how: string; about: string[] }
  | { type: 'recycled'; pid: number | undefined; memoryBytes: number }
  | { type: 'limit_too_low'; pid: number | undefined; memoryBytes: number }
  | { type: 'load_failed'; message: string; retryInMs: number }

type State =
  /** The process loads its model. */
  | { name: 'starting'; process: EngineProcess }
  | { name: 'serving'; process: EngineProcess }
  /** The process was told to stop while no call was in it, and another will take its place. */
  | { name: 'replacing'; process: EngineProcess }
  /** No process runs until the timer fires. */
  | { name: 'paused'; timer: NodeJS.Timeout }
  | { name: 'closing' }

/** The states that may follow each state. */
const next: Readonly<Record<State['name'], readonly State['name'][]>> = {
  starting: ['serving', 'paused', 'closing'],
  serving: ['replacing', 'paused', 'closing'],
  replacing: ['starting', 'closing'],
  paused: ['starting', 'closing'],
  closing: [],
}

const firstPauseMs = 100
const maxPauseMs = 10_000

/** Resolves when the model is loaded; rejects with `load_failed` when it cannot be. */
export async function startEngine(options: EngineSupervisorOptions): Promise<EngineSupervisor> {
  const engine = new EngineSupervisor(options)
  try {
    await engine.untilServing()
    return engine
  } catch (error) {
    await engine.close()
    throw error
  }
}

export class EngineSupervisor implements Engine {
  readonly #options: EngineSupervisorOptions
  readonly #turns = new CallTurns()
  readonly #watermark: MemoryWatermark
  #state: State
  /** Settles with the serving process; replaced by a new promise whenever there is none. */
  #serving = newPromise<EngineProcess>()
  #capabilities: EngineCapabilities | undefined
  /** Settles with the hash of the model that the process has loaded. */
  #contentHash = newPromise<string>()
  #processes = 0
  #restarts = 0
  #recycles = 0
  /** How many processes in a row have died since one last loaded the model. */
  #failures = 0
  /** Its memory as last reported by the process. */
  #memoryBytes = 0
  #recycling = false
  #closed: Promise<void> | undefined

  constructor(options: EngineSupervisorOptions) {
    this.#options = options
    this.#watermark = new MemoryWatermark(options.memoryLimitBytes)
    this.#state = { name: 'starting', process: this.#spawn() }
  }

  get capabilities(): EngineCapabilities {
    return this.#capabilities as EngineCapabilities
  }

  get restarts(): number {
    return this.#restarts
  }

  get recycles(): number {
    return this.#recycles
  }

  /** The process id of the running process; undefined while there is none. */
  get pid(): number | undefined {
    return 'process' in this.#state ? this.#state.process.pid : undefined
  }

  /** Whether the running process has loaded its model. */
  get hasModel(): boolean {
    return this.#state.name === 'serving'
  }

  async generate(id: string, params: EngineParams, options: EngineCallOptions = {}): Promise<EngineResult> {
    const { signal, exclusive = false, newerThan = 0 } = options
    const endTurn = await this.#turns.take(exclusive || newerThan > 0, signal).catch(() => {
      throw toCanceled()
    })
    try {
      let process = await this.untilServing(signal)
      if (process.number <= newerThan) process = await this.#replace(process).then(() => this.untilServing(signal))
      return await process.generate(id, params, options)
    } finally {
      endTurn()
    }
  }

  async contentHash(signal?: AbortSignal): Promise<string> {
    return await orCanceled(this.#contentHash.promise, signal)
  }

  async checkpoint(id: string): Promise<Checkpoint | undefined> {
    return this.#state.name === 'serving' ? await this.#state.process.checkpoint(id) : undefined
  }

  async stats(): Promise<EngineStats> {
    return await (await this.untilServing()).stats()
  }

  close(): Promise<void> {
    return (this.#closed ??= this.#close())
  }

  /** Rejects with `canceled` when the signal aborts first, and with `closed` or `load_failed` when there will be no such process. */
  async untilServing(signal?: AbortSignal): Promise<EngineProcess> {
    return await orCanceled(this.#serving.promise, signal)
  }

  #enter(state: State): void {
    if (!next[this.#state.name].includes(state.name)) throw new Error(`Expected no way from ${this.#state.name} to ${state.name}, got one`)
    this.#state = state
  }

  /** Paused or replacing → starting. */
  #start(): void {
    this.#enter({ name: 'starting', process: this.#spawn() })
  }

  /** Starting → serving, unless it is closing. */
  #serve(process: EngineProcess, capabilities: EngineCapabilities, memoryBytes: number): void {
    // It was told to stop while loading and will end.
    if (this.#state.name === 'closing') return
    this.#enter({ name: 'serving', process })
    this.#failures = 0
    if (this.#capabilities?.contentHash !== undefined) this.#contentHash = newPromise()
    this.#capabilities = capabilities
    this.#emit({ type: 'ready', pid: process.pid, capabilities })
    if (capabilities.contentHash !== undefined) this.#contentHash.resolve(capabilities.contentHash)
    this.#heed(this.#watermark.judgeLoaded(memoryBytes), process, memoryBytes)
    this.#serving.resolve(process)
  }

  /** Serving → replacing, for a caller that has the engine to itself. Resolves when the process has ended. */
  async #replace(process: EngineProcess): Promise<void> {
    this.#enter({ name: 'replacing', process })
    this.#serving = newPromise()
    this.#emit({ type: 'recycled', pid: process.pid, memoryBytes: this.#memoryBytes })
    await process.stop()
  }

  /** Starting or serving → paused. */
  #pause(): void {
    const timer = setTimeout(() => this.#start(), this.#pauseMs())
    this.#enter({ name: 'paused', timer })
    this.#failures++
    this.#restarts++
  }

  /** Any state → closing. */
  async #close(): Promise<void> {
    const state = this.#state
    this.#enter({ name: 'closing' })
    this.#serving.reject(toClosed())
    this.#serving = newPromise()
    this.#serving.reject(toClosed())
    this.#contentHash.reject(toClosed())
    if (state.name === 'paused') clearTimeout(state.timer)
    if ('process' in state) await state.process.stop()
  }

  /** The process has ended; its calls have not been rejected yet. */
  #exited(process: EngineProcess, how: string, about: string[]): void {
    switch (this.#state.name) {
      case 'starting':
      case 'serving':
        if (this.#capabilities === undefined)
          return this.#serving.reject(new EngineError('load_failed', `Expected the engine process to load the model, got ${how}`))
        this.#emit({ type: 'died', pid: process.pid, how, about })
        if (this.#state.name === 'serving') this.#serving = newPromise()
        this.#pause()
        return
      case 'replacing':
        this.#recycles++
        this.#start()
        return
      case 'closing':
        this.#emit({ type: 'ended', pid: process.pid, how, about })
        return
      case 'paused':
        throw new Error('Expected no process while the engine is paused, got the end of one')
    }
  }

  #spawn(): EngineProcess {
    const { stepTimeoutMs, loadTimeoutMs = 600_000, onStep = () => {}, entry = defaultEntry, onEvent: _, ...engine } = this.#options
    const process: EngineProcess = new EngineProcess({
      number: ++this.#processes,
      entry,
      engine,
      stepTimeoutMs,
      loadTimeoutMs,
      onSilentLoad: (silentMs) => this.#emit({ type: 'silent_load', pid: process.pid, silentMs, limitMs: loadTimeoutMs }),
      onReady: ({ capabilities, memoryBytes }) => this.#serve(process, capabilities, memoryBytes),
      onHashed: ({ contentHash, durationMs }) => {
        this.#capabilities = { ...this.capabilities, contentHash }
        this.#emit({ type: 'hashed', pid: process.pid, contentHash, durationMs })
        this.#contentHash.resolve(contentHash)
      },
      onLoadFailed: (message) => {
        if (this.#capabilities === undefined) this.#serving.reject(new EngineError('load_failed', message))
        else this.#emit({ type: 'load_failed', message, retryInMs: this.#pauseMs() })
      },
      onStep,
      onCallEnd: (memoryBytes) => this.#heed(this.#watermark.judgeCall(memoryBytes), process, memoryBytes),
      onHung: (about) => {
        this.#emit({ type: 'hung', pid: process.pid, about })
        if (this.#capabilities === undefined) this.#serving.reject(toHungLoad(loadTimeoutMs))
      },
      onExit: (how, about) => this.#exited(process, how, about),
    })
    return process
  }

  #heed(verdict: MemoryVerdict, process: EngineProcess, memoryBytes: number): void {
    this.#memoryBytes = memoryBytes
    if (verdict === 'limit_too_low') this.#emit({ type: 'limit_too_low', pid: process.pid, memoryBytes })
    if (verdict === 'replace' && !this.#recycling) void this.#recycle()
  }

  /** Replaces the process as soon as the calls in it have ended; calls that arrive meanwhile wait. */
  async #recycle(): Promise<void> {
    this.#recycling = true
    const endTurn = await this.#turns.take(true)
    try {
      const process = await this.untilServing()
      if (process.isUsed) await this.#replace(process)
      this.#watermark.replaced()
    } catch {
      // Closed meanwhile.
    } finally {
      this.#recycling = false
      endTurn()
    }
  }

  #pauseMs(): number {
    return this.#failures === 0 ? 0 : Math.min(firstPauseMs * 2 ** (this.#failures - 1), maxPauseMs)
  }

  #emit(event: EngineEvent): void {
    this.#options.onEvent?.(event)
  }
}

const defaultEntry = fileURLToPath(new URL('engine-main.ts', import.meta.url))
