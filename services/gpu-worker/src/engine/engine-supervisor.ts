/**
 * Keeps one engine process alive and speaks the protocol with it. Runs in the worker's main process.
 *
 *   starting ─ ready ─► serving ─ exit, or killed after silence ─► (pause) ─► starting …
 *       └── any state ─ close ─► closed
 *
 * Invariants: a call is in the process or waits for its turn, and settles exactly once; when the process dies every call in it rejects with
 * `engine_crashed` or `engine_hung`, and calls that wait go on in the next process. A process is replaced at once when it had made
 * progress, else after a growing pause. Knows nothing about jobs; who may try again is the caller's decision.
 *
 * Memory: a process found past its limit at the end of a call, however that ended, is replaced as soon as the calls in it have ended; calls
 * that come meanwhile wait. Where that does not last, because the model alone is past the limit or the next process is past it again
 * within its first calls, the next would be no smaller: it is let be, until it has grown by a quarter more.
 *
 * Silence: the process owes a sign of work (a step, an image, an end) while a call is in it. One native run blocks it, so the limit is for
 * the longest run there is. It is counted in ticks of a timer, not read from a clock: after this process itself was stopped or the machine
 * slept, messages that lie in the channel are read before many ticks have gone by.
 */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CallTurns } from './call-turns.ts'
import { EngineError } from './engine.ts'
import type { Engine, EngineCallOptions, EngineResult } from './engine.ts'
import type {
  Checkpoint,
  EngineCapabilities,
  EngineImage,
  EngineOptions,
  EngineStats,
  EngineStep,
  FromEngine,
  ToEngine,
} from './protocol.ts'

export interface EngineSupervisorOptions extends EngineOptions {
  /** Longest silence, for each image of the largest call, before the process counts as hung. Milliseconds. */
  stepTimeoutMs: number
  /** Told what happens to the process. */
  onEvent?: (event: EngineEvent) => void
  /** Told of every run of the transformer. */
  onStep?: (step: EngineStep) => void
  /** Module that the process runs. Default: engine-process.ts. */
  entry?: string
}

export type EngineEvent =
  | { type: 'ready'; pid: number | undefined; capabilities: EngineCapabilities }
  | { type: 'hung'; pid: number | undefined; calls: string[] }
  | { type: 'died' | 'ended'; pid: number | undefined; how: string; calls: string[] }
  | { type: 'recycled'; pid: number | undefined; memoryBytes: number }
  | { type: 'limit_too_low'; pid: number | undefined; memoryBytes: number }
  | { type: 'load_failed'; message: string; retryInMs: number }

interface Call {
  readonly options: EngineCallOptions
  readonly images: EngineImage[]
  readonly numImages: number
  resolve: (result: EngineResult) => void
  reject: (error: EngineError) => void
}

interface Answer<T> {
  resolve: (value: T) => void
  reject: (error: EngineError) => void
}

const TICKS = 10
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 10_000
/** A process that replaced one because of its memory and is past the limit before so many calls have ended needs that much. */
const FEW_CALLS = 10
/** How much such a process may grow. */
const ROOM = 1.25

export interface SupervisedEngine extends Engine {
  /** Of the process that runs now; undefined while there is none. */
  readonly pid: number | undefined
  /** Whether the process that runs now has loaded its model. */
  readonly hasModel: boolean
}

/** Resolves when the model is loaded; rejects with `load_failed` when it cannot be. */
export async function startEngine(options: EngineSupervisorOptions): Promise<SupervisedEngine> {
  const {
    stepTimeoutMs,
    onEvent = () => {},
    onStep = () => {},
    entry = fileURLToPath(new URL('engine-process.ts', import.meta.url)),
    ...engineOptions
  } = options
  const calls = new Map<string, Call>()
  const turns = new CallTurns()
  const checkpoints = new Map<string, Answer<Checkpoint | undefined>[]>()
  let stats: Answer<EngineStats>[] = []
  let child: ChildProcess | undefined
  let hasModel = false
  let capabilities: EngineCapabilities | undefined
  let serving = Promise.withResolvers<ChildProcess>()
  let closing: Promise<void> | undefined
  let hung = false
  let silentTicks = 0
  let restarts = 0
  let recycles = 0
  /** Of the process, as it said last. */
  let memoryBytes = 0
  /** Past it a process is replaced: the limit, or more where the engine cannot do with that. */
  let watermarkBytes = engineOptions.memoryLimitBytes ?? Infinity
  /** Calls that have ended since a process was replaced because of its memory. */
  let callsSinceRecycle = Infinity
  /** Whether the process has been given a call. */
  let used = false
  /** The process ends because it was told to, and another takes its place. */
  let replacing = false
  let recycling: Promise<void> | undefined
  let failures = 0
  let pause: NodeJS.Timeout | undefined

  const send = (to: ChildProcess, message: ToEngine): void => {
    // A channel that has closed is told by `exit`, which settles everything.
    if (to.connected) to.send(message, () => {})
  }

  const onMessage = (message: FromEngine, from: ChildProcess): void => {
    if (message.type === 'stats') {
      if (calls.size === 0) silentTicks = 0
      for (const { resolve } of stats.splice(0)) resolve(message.stats)
      return
    }
    if (message.type === 'checkpoint') {
      const answers = checkpoints.get(message.id) ?? []
      checkpoints.delete(message.id)
      for (const { resolve } of answers) resolve(message.checkpoint)
      return
    }
    silentTicks = 0
    if (message.type === 'ready') {
      failures = 0
      hasModel = true
      capabilities = message.capabilities
      memoryBytes = message.memoryBytes
      onEvent({ type: 'ready', pid: from.pid, capabilities })
      if (memoryBytes > watermarkBytes) raiseWatermark(from)
      serving.resolve(from)
      return
    }
    if (message.type === 'error' && message.id === undefined) {
      if (capabilities === undefined) serving.reject(new EngineError('load_failed', message.message))
      else onEvent({ type: 'load_failed', message: message.message, retryInMs: pauseMs() })
      return
    }
    if (message.type === 'step') {
      onStep(message)
      return
    }
    const call = calls.get(message.id ?? '')
    if (call === undefined) return
    switch (message.type) {
      case 'progress':
        call.options.onProgress?.(message.step, message.total)
        break
      case 'preview':
        call.options.onPreview?.(message.step, toImage(message))
        break
      case 'image':
        call.images[message.index] = toImage(message)
        break
      case 'done':
        calls.delete(message.id)
        call.resolve({ images: call.images, timings: message.timings })
        checkMemory(message.memoryBytes, from)
        break
      case 'error':
        calls.delete(message.id ?? '')
        call.reject(new EngineError(message.code, message.message))
        checkMemory(message.memoryBytes ?? memoryBytes, from)
    }
  }

  const checkMemory = (bytes: number, from: ChildProcess): void => {
    memoryBytes = bytes
    callsSinceRecycle++
    if (bytes <= watermarkBytes || recycling !== undefined) return
    if (callsSinceRecycle < FEW_CALLS) raiseWatermark(from)
    else recycling = recycle()
  }

  const raiseWatermark = (from: ChildProcess): void => {
    watermarkBytes = memoryBytes * ROOM
    onEvent({ type: 'limit_too_low', pid: from.pid, memoryBytes })
  }

  /** Rejects with `canceled` when the signal comes first. */
  const untilServing = async (signal?: AbortSignal): Promise<ChildProcess> => {
    const canceled = Promise.withResolvers<never>()
    const cancel = (): void => canceled.reject(toCanceled())
    signal?.addEventListener('abort', cancel, { once: true })
    if (signal?.aborted === true) cancel()
    try {
      const target = await Promise.race([canceled.promise, serving.promise])
      if (closing !== undefined) throw new EngineError('closed', 'The engine was closed')
      return target
    } finally {
      signal?.removeEventListener('abort', cancel)
    }
  }

  const pauseMs = (): number => (failures === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), MAX_PAUSE_MS))

  const onExit = (from: ChildProcess, how: string): void => {
    child = undefined
    hasModel = false
    const wasReady = capabilities !== undefined
    const code = closing !== undefined ? 'closed' : hung ? 'engine_hung' : 'engine_crashed'
    hung = false
    const replaced = replacing
    replacing = false
    used = false
    if (!replaced) onEvent({ type: closing === undefined ? 'died' : 'ended', pid: from.pid, how, calls: [...calls.keys()] })
    const alone = calls.size === 1
    const dead = [...calls.values()]
    calls.clear()
    if (closing === undefined) {
      if (!wasReady) {
        serving.reject(new EngineError('load_failed', `Expected the engine process to load the model, got ${how}`))
        return
      }
      // Renewed before calls are rejected: who tries again at once waits for the next process.
      serving = Promise.withResolvers()
      serving.promise.catch(() => {})
      if (replaced) recycles++
      else restarts++
      const delayMs = replaced ? 0 : pauseMs()
      if (!replaced) failures++
      pause = setTimeout(start, delayMs)
    } else serving.reject(new EngineError('closed', 'The engine was closed'))
    const error = new EngineError(code, `The engine process ended (${how})`, alone)
    for (const { reject } of [...dead, ...stats.splice(0), ...[...checkpoints.values()].flat()]) reject(error)
    checkpoints.clear()
  }

  /** The caller has the engine for itself. */
  const replace = async (signal?: AbortSignal): Promise<void> => {
    const ended = await untilServing(signal)
    if (!used) return
    onEvent({ type: 'recycled', pid: ended.pid, memoryBytes })
    replacing = true
    await stop(ended)
  }

  const recycle = async (): Promise<void> => {
    const endTurn = await turns.take(true)
    try {
      await replace()
      callsSinceRecycle = 0
    } catch {
      // Closed meanwhile.
    } finally {
      recycling = undefined
      endTurn()
    }
  }

  const stop = async (target: ChildProcess): Promise<void> => {
    const exited = new Promise((resolve) => {
      target.once('exit', resolve)
    })
    send(target, { type: 'stop' })
    // It cannot answer while a native run lasts, and nobody waits for the result any more.
    const impatience = setTimeout(() => target.kill('SIGKILL'), 1000)
    await exited
    clearTimeout(impatience)
  }

  const start = (): void => {
    silentTicks = 0
    const known = capabilities === undefined ? {} : { contentHash: capabilities.contentHash }
    const started = fork(entry, [JSON.stringify({ ...engineOptions, ...known } satisfies EngineOptions)], {
      serialization: 'advanced',
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    child = started
    started.on('message', (message) => onMessage(message as FromEngine, started))
    started.on('error', () => {})
    started.once('exit', (code, signal) => onExit(started, signal ?? `exit code ${code}`))
  }

  const watchdog = setInterval(() => {
    if (child === undefined || hung || capabilities === undefined) return
    if (calls.size + stats.length === 0) silentTicks = 0
    else silentTicks++
    if (silentTicks <= TICKS * Math.max(1, ...[...calls.values()].map((call) => call.numImages))) return
    hung = true
    onEvent({ type: 'hung', pid: child.pid, calls: [...calls.keys()] })
    child.kill('SIGKILL')
  }, stepTimeoutMs / TICKS)
  const killAtExit = (): void => void child?.kill('SIGKILL')
  process.once('exit', killAtExit)

  const close = async (): Promise<void> => {
    const ended = child
    clearInterval(watchdog)
    clearTimeout(pause)
    if (ended !== undefined) await stop(ended)
    else serving.reject(new EngineError('closed', 'The engine was closed'))
    process.off('exit', killAtExit)
  }

  start()
  try {
    await serving.promise
  } catch (error) {
    closing = close()
    await closing
    throw error
  }

  return {
    get capabilities() {
      return capabilities as EngineCapabilities
    },
    get restarts() {
      return restarts
    },
    get recycles() {
      return recycles
    },
    get pid() {
      return child?.pid
    },
    get hasModel() {
      return hasModel
    },

    async generate(id, params, callOptions = {}) {
      const { signal, resume, previewEvery, exclusive = false, fresh = false } = callOptions
      const endTurn = await turns.take(exclusive || fresh, signal).catch(() => {
        throw toCanceled()
      })
      try {
        if (fresh) await replace(signal)
        const target = await untilServing(signal)
        if (signal?.aborted === true) throw toCanceled()
        const cancel = (): void => send(target, { type: 'cancel', id })
        try {
          return await new Promise<EngineResult>((resolve, reject) => {
            if (calls.has(id)) throw new Error(`Expected an id that is not in the engine, got ${id}`)
            used = true
            calls.set(id, { options: callOptions, images: [], numImages: params.numImagesPerPrompt, resolve, reject })
            signal?.addEventListener('abort', cancel, { once: true })
            send(target, {
              type: 'generate',
              id,
              params,
              ...(resume === undefined ? {} : { resume }),
              ...(previewEvery === undefined ? {} : { previewEvery }),
            })
          })
        } finally {
          signal?.removeEventListener('abort', cancel)
        }
      } finally {
        endTurn()
      }
    },

    async checkpoint(id) {
      const target = child
      if (target === undefined || !calls.has(id)) return undefined
      return await new Promise((resolve, reject) => {
        checkpoints.set(id, [...(checkpoints.get(id) ?? []), { resolve, reject }])
        send(target, { type: 'checkpoint', id })
      })
    },

    async stats() {
      const target = await untilServing()
      return await new Promise((resolve, reject) => {
        stats.push({ resolve, reject })
        send(target, { type: 'stats' })
      })
    },

    close() {
      closing ??= close()
      return closing
    },
  }
}

function toImage({ index, width, height, rgb }: EngineImage): EngineImage {
  return { index, width, height, rgb }
}

function toCanceled(): EngineError {
  return new EngineError('canceled', 'The call was canceled before it began')
}
