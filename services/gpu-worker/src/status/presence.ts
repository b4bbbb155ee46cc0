/**
 * Tells the registry what this worker serves and that it is alive. Runs in the worker's main process.
 *
 * Invariant: while it runs, the model's record and a fresh heartbeat are in Redis, even after Redis came back empty; after `close` no
 * heartbeat of this worker is left. If the registry cannot be written, that is logged and tried again at the next beat.
 */
import { heartbeatSeconds } from '@easel/contract'
import type { EngineTelemetry, ModelRecord } from '@easel/contract'
import type { ModelRegistry } from '@easel/job-store'
import type { Logger } from 'pino'
import type { Engine } from '../engine/engine.ts'
import type { EngineStats } from '../engine/protocol.ts'
import { readGpuMemory } from './read-gpu-memory.ts'
import type { GpuMemory } from './read-gpu-memory.ts'
import { toModelRecord } from './to-model-record.ts'

export interface PresenceOptions {
  registry: ModelRegistry
  engine: Engine
  workerId: string
  concurrency: number
  /** The operator's limit for width × height; undefined for the model's. */
  maxPixels: number | undefined
  /** The GPU whose memory is reported, by index or UUID; undefined for the first. */
  gpu: string | undefined
  /** Called every few seconds with what the engine says about itself. */
  onStats: (stats: EngineStats) => void
  /** The number of jobs running now. */
  active: () => number
  isReady: () => boolean
  logger: Logger
  now: () => number
}

export interface Presence {
  /** Announces the model and starts the heartbeat. */
  begin(): Promise<void>
  /** Writes the record and the heartbeat now. */
  announce: () => void
  close(): Promise<void>
}

export function createPresence(options: PresenceOptions): Presence {
  const { registry, engine, workerId, concurrency, maxPixels, gpu, onStats, active, isReady, logger, now } = options
  let stats: EngineStats | undefined
  let gpuMemory: GpuMemory | undefined
  // Until this process has made a step, estimates use what its predecessor measured.
  let known: ModelRecord | null | undefined
  let asking = false
  let timer: NodeJS.Timeout | undefined
  let beating: Promise<void> = Promise.resolve()

  // The engine answers between two native runs; the heartbeat does not wait for it.
  const ask = async (): Promise<void> => {
    if (asking) return
    asking = true
    try {
      if (engine.capabilities.provider !== 'cpu') gpuMemory = await readGpuMemory(gpu)
      const fresh = await engine.stats()
      onStats(fresh)
      stats = fresh
    } catch {
      // It has died; the next one will be asked.
    } finally {
      asking = false
    }
  }

  const beat = async (): Promise<void> => {
    const { provider, modelId, contentHash } = engine.capabilities
    const before = known?.content_hash === contentHash && known?.provider === provider ? known : undefined
    await registry.announce(
      toModelRecord(engine.capabilities, {
        maxPixels,
        stepMs: stats?.stepMs ?? before?.step_ms ?? null,
        pictureMs: stats?.pictureMs ?? before?.picture_ms ?? null,
        loras: stats?.loras,
        now: now(),
      }),
    )
    await registry.heartbeat({
      id: workerId,
      model: modelId,
      concurrency,
      active: active(),
      device: provider,
      engine_memory_bytes: stats?.memoryBytes ?? 0,
      engine: stats && toTelemetry(stats),
      gpu: gpuMemory,
      ready: isReady(),
    })
  }

  const announce = (): void => {
    void ask()
    beating = beating.then(beat).catch((error: unknown) => logger.warn({ err: error }, 'the registry could not be written'))
  }

  return {
    async begin() {
      known = await registry.model(engine.capabilities.modelId)
      await ask()
      await beat()
      timer = setInterval(announce, heartbeatSeconds * 1000)
      // For a model that is new here the hash is known later.
      if (engine.capabilities.contentHash === undefined) engine.contentHash().then(announce, () => {})
    },
    announce,
    async close() {
      clearInterval(timer)
      await beating
      await registry.removeWorker(workerId)
    },
  }
}

function toTelemetry({ pipeline }: EngineStats): EngineTelemetry {
  const { steps, rows, stepMs, waitMs, waitingRows, batchingGain, promptCache, memory, shortages } = pipeline
  return {
    steps,
    rows,
    step_seconds: stepMs / 1000,
    wait_seconds: waitMs / 1000,
    waiting_rows: waitingRows,
    batching_gain: batchingGain,
    prompt_cache_hits: promptCache.hits,
    prompt_cache_misses: promptCache.misses,
    memory_estimated_bytes: Math.round(memory.estimatedBytes),
    memory_waiting: memory.waiting,
    memory_shortages: shortages,
  }
}
