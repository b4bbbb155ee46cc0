/**
 * An engine process without a model: speaks the worker's protocol and answers every call with ready bytes, after as many steps as it was asked
 * for. With `NULL_STEP_MS` each step takes this long for all calls together, as on a device; without it steps take no time.
 *
 * Runs in place of services/gpu-worker/src/engine/engine-main.ts; forked by the same supervisor.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { basename } from 'node:path'
import type { EngineOptions, EngineStats, FromEngine, ToEngine } from '../../services/gpu-worker/src/engine/protocol.ts'

process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
process.on('disconnect', () => process.exit(0))

const stepMs = Number(process.env['NULL_STEP_MS'] ?? 0)
const options = JSON.parse(process.argv[2] ?? '{}') as EngineOptions
const send = (message: FromEngine): void => void process.send?.(message, () => {})

type GenerateMessage = Extract<ToEngine, { type: 'generate' }>
/** The calls in flight and the number of steps that each still needs. */
const calls = new Map<string, { message: GenerateMessage; step: number; beganAt: number }>()
let stepping = false

function end(id: string, { params }: GenerateMessage, denoiseMs: number): void {
  const { width, height } = params
  for (let index = 0; index < params.numImagesPerPrompt; index++)
    send({ type: 'image', id, index, width, height, rgb: new Uint8Array(width * height * 3).fill(128) })
  send({
    type: 'done',
    id,
    loras: [],
    timings: { encodeMs: 0, denoiseMs, decodeMs: 0, deviceMs: denoiseMs },
    memoryBytes: process.memoryUsage.rss(),
  })
}

/** Runs one step of all calls in flight at a time. Every step takes the same time, however many calls there are. */
async function runSteps(): Promise<void> {
  if (stepping) return
  stepping = true
  while (calls.size > 0) {
    const taking = [...calls.keys()]
    await sleep(stepMs)
    for (const id of taking) {
      const call = calls.get(id)
      if (call === undefined) continue
      const total = call.message.params.numInferenceSteps
      send({ type: 'progress', id, step: ++call.step, total })
      if (call.step < total) continue
      calls.delete(id)
      end(id, call.message, performance.now() - call.beganAt)
    }
  }
  stepping = false
}

function toStats(): EngineStats {
  const memoryBytes = process.memoryUsage.rss()
  return {
    memoryBytes,
    active: calls.size,
    loras: [],
    stepMs: stepMs === 0 ? null : stepMs,
    pictureMs: null,
    pipeline: {
      steps: 0,
      rows: 0,
      stepMs: 0,
      runMs: 0,
      waitMs: 0,
      lastStep: undefined,
      waitingCalls: 0,
      waitingRows: 0,
      batchingGain: 1,
      stepTimes: {},
      knees: {},
      encodeMs: 0,
      decodeMs: 0,
      shortages: 0,
      promptCache: { hits: 0, misses: 0, entries: 0, bytes: 0 },
      pictureCache: { hits: 0, misses: 0, entries: 0, bytes: 0 },
      memory: { estimatedBytes: 0, limitBytes: undefined, residentBytes: memoryBytes, admitted: calls.size, waiting: 0 },
    },
  }
}

process.on('message', (message: ToEngine) => {
  switch (message.type) {
    case 'generate':
      if (stepMs === 0) end(message.id, message, 0)
      else {
        calls.set(message.id, { message, step: 0, beganAt: performance.now() })
        void runSteps()
      }
      break
    case 'cancel':
      if (calls.delete(message.id)) send({ type: 'error', id: message.id, code: 'canceled', message: 'canceled', memoryBytes: 0 })
      break
    case 'checkpoint':
      send({ type: 'checkpoint', id: message.id })
      break
    case 'stats':
      send({ type: 'stats', stats: toStats() })
      break
    case 'stop':
      process.exit(0)
  }
})

send({
  type: 'ready',
  capabilities: {
    modelId: basename(options.model),
    contentHash: '0'.repeat(64),
    pipelineClass: 'NullPipeline',
    provider: 'none',
    runtime: 'none',
    providerReason: 'no model is run',
    hasVaeEncoder: false,
    graphs: {},
    weights: 'none',
    weightsReason: 'no model is run',
    scheduler: { class: 'NullScheduler', config: {} },
    defaults: { width: 64, height: 64, numInferenceSteps: 4, guidanceScale: 4, maxSequenceLength: 20 },
    limits: { sizeMultiple: 16, maxSide: 256, maxSequenceLength: 512, layers: 0, maxClipSkip: 1 },
    loras: [],
    loadMs: performance.now(),
  },
  memoryBytes: process.memoryUsage.rss(),
})
