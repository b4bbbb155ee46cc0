/**
 * Row 16: what is computed around a float16 model on a fast GPU.
 *
 * Eight guided requests of 1024 × 1024 pixels step together, sixteen rows a step. A GPU that takes 200 ms for a step is simulated: the graph
 * is replaced by a wait that blocks the thread, as ONNX Runtime's run does, and noise that is copied to its output. Everything else is the
 * engine's own: guidance, scheduler steps, conversion from and to float16, packing, promises and the turn of the event loop. The share is
 * the time from the end of one step's wait to the beginning of the next, divided by the whole step. V8's instructions for float16 are allowed, as
 * in the engine process.
 * Controls: that time in milliseconds, and the time of the arithmetic of guidance and step alone.
 */
import { fileURLToPath } from 'node:url'
import { addScaledMixFloat16 } from '../../packages/pipeline/src/tensor/float16.ts'
import { makeHalves, usesHalfInstructions } from '../../packages/pipeline/src/tensor/float16-kernels.ts'
import { allowHalfInstructions, Generator, randnTensor, RequestScopedPipeline, StableDiffusion3Pipeline } from '@easel/pipeline'
import type { GenerateParams } from '@easel/pipeline'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'

const model = fileURLToPath(new URL('../../packages/pipeline/test/fixtures/float16-model', import.meta.url))
const inFlight = 8
const rowsOfStep = inFlight * 2
const deviceMs = 200
/** In the first steps of a slot the requests are still falling into step with each other, so these are not counted. */
const steps = 7

export const row: Row = {
  id: 16,
  claims: [{ name: 'share of a step outside the device: float16, 1024 px, 8 guided pictures, 200 ms on the device', target: '<= 0.03' }],
  controls: 'Controls: milliseconds from one run to the next, and of the arithmetic alone.',
  async run({ pairs }) {
    allowHalfInstructions()
    // The fixture has no text encoders, so texts are given as embeddings.
    const components = { textEncoder: null, textEncoder2: null }
    const pipeline = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', batching: { policy: 'fcfs' }, components })
    try {
      const gapsMs = simulateDevice(pipeline)
      const rounds = await runRounds(pairs, {
        gap: async () => {
          gapsMs.length = 0
          await runTogether(pipeline)
          return median(gapsMs)
        },
        arithmetic: async () => measureArithmetic(),
      })
      return {
        measured: [toMeasured(rounds.map(({ gap }) => gap / (gap + deviceMs)))],
        controls: {
          'between two runs': `${median(rounds.map(({ gap }) => gap)).toFixed(1)} ms`,
          instructions: usesHalfInstructions() ? 'for float16' : 'plain, as this machine or V8 has none for float16',
          'guidance and step': `${median(rounds.map(({ arithmetic }) => arithmetic)).toFixed(1)} ms`,
        },
      }
    } finally {
      await pipeline.close()
    }
  },
}

/** Puts the wait in place of the graph. The returned list gets the gap before each step that contains all requests. */
function simulateDevice({ transformer }: StableDiffusion3Pipeline): number[] {
  const gapsMs: number[] = []
  let noise = new Uint16Array(0)
  let endedAt = Number.NaN
  transformer.run = async ({ rows, output, hiddenStates }) => {
    // Only the gap between two steps of all requests contains the work of a whole step.
    if (rows === rowsOfStep && !Number.isNaN(endedAt)) gapsMs.push(threadMs() - endedAt)
    const startedAt = performance.now()
    if (noise.length < output.length) noise = Uint16Array.from(hiddenStates)
    output.set(noise.subarray(0, output.length))
    Atomics.wait(sleeper, 0, 0, Math.max(0, deviceMs - (performance.now() - startedAt)))
    endedAt = rows === rowsOfStep ? threadMs() : Number.NaN
  }
  return gapsMs
}

async function runTogether(pipeline: StableDiffusion3Pipeline): Promise<void> {
  const scoped = new RequestScopedPipeline(pipeline)
  const half = (seed: number, ...dims: number[]) => randnTensor(dims, new Generator(seed), 'float16')
  const request = (seed: number): GenerateParams => ({
    seed,
    width: 1024,
    height: 1024,
    numInferenceSteps: steps,
    guidanceScale: 4.5,
    outputType: 'latent',
    // As in the engine's host, which is called after each step and takes no latents.
    callbackOnStepEnd: () => undefined,
    callbackOnStepEndTensorInputs: [],
    promptEmbeds: half(seed, 1, 6, 8),
    pooledPromptEmbeds: half(seed, 1, 16),
    negativePromptEmbeds: half(seed + 1, 1, 6, 8),
    negativePooledPromptEmbeds: half(seed + 1, 1, 16),
  })
  await Promise.all(Array.from({ length: inFlight }, (_, seed) => scoped.generate(request(seed))))
}

const sleeper = new Int32Array(new SharedArrayBuffer(4))

/**
 * Milliseconds for which this thread has had a processor, so that other work on the machine does not count. A thread that runs is charged
 * at the ticks of the kernel's clock, every 4 ms or so, and exactly when it stops; hence the short sleep.
 */
function threadMs(): number {
  Atomics.wait(sleeper, 0, 0, 0.02)
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/** Milliseconds that guidance and the scheduler's step alone take for all pictures. */
function measureArithmetic(): number {
  const values = randnTensor([3, 16, 128, 128], new Generator(1), 'float16').bits
  const length = values.length / 3
  const near = makeHalves(values.length)
  near.set(values)
  const [uncond, cond, sample] = [0, 1, 2].map((index) => near.subarray(index * length, (index + 1) * length)) as [
    Uint16Array,
    Uint16Array,
    Uint16Array,
  ]
  const bits = new Uint16Array(length)
  const startedAt = threadMs()
  for (let picture = 0; picture < inFlight; picture++) addScaledMixFloat16(sample, uncond, cond, 4.5, -0.01, bits)
  return threadMs() - startedAt
}
