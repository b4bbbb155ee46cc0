import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { mixFloat16, roundToFloat16 } from '../tensor/float16.ts'
import { splitRows } from '../tensor/rows.ts'
import { Generator, randn, randnTensor } from '../tensor/random-normal.ts'
import { Tensor } from '../tensor/tensor.ts'
import { FlowMatchEulerDiscreteScheduler } from './flow-match-euler-discrete.ts'

// Made with diffusers 0.40.0.dev0 (58eb52c) and torch 2.13; floats are base64 of little-endian float32.
interface Golden {
  readonly name: string
  readonly config: Record<string, unknown>
  readonly call: { num_inference_steps?: number; sigmas?: number[]; timesteps?: number[]; mu?: number }
  readonly error?: string
  readonly sigmas: string
  readonly timesteps: string
  readonly order: number
  readonly trajectory_sha256: readonly string[]
  readonly final: string
}

const readGolden = (name: string): string => readFileSync(new URL(`../../test/golden/${name}.json`, import.meta.url), 'utf8')

const golden: readonly Golden[] = JSON.parse(readGolden('schedulers'))
const errors = golden.filter(({ error }) => error !== undefined)
// scipy's beta quantile is not reproduced to the last bit.
const close = golden.filter(({ name }) => name === 'use_beta_sigmas')
const equal = golden.filter((entry) => !errors.includes(entry) && !close.includes(entry))

const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength)
const base64 = (values: Float32Array): string => bytesOf(values).toString('base64')
const sha256 = (values: Float32Array): string => createHash('sha256').update(bytesOf(values)).digest('hex')

function fromBase64(text: string): Float32Array {
  const bytes = Buffer.from(text, 'base64')
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4))
}

const latents = (seed: number): Tensor => randn([1, 16, 4, 4], new Generator(seed))

function configure({ config, call }: Golden): FlowMatchEulerDiscreteScheduler {
  const scheduler = FlowMatchEulerDiscreteScheduler.fromConfig(config)
  const { num_inference_steps: steps, ...options } = call
  scheduler.setTimesteps(steps, options)
  return scheduler
}

/** The sample after every step, from the inputs that the references were made with. */
function walk(scheduler: FlowMatchEulerDiscreteScheduler): Tensor[] {
  const generator = new Generator(11)
  let sample = latents(7)
  return Array.from(scheduler.timesteps, (timestep, i) => {
    sample = scheduler.step(latents(100 + i), timestep, sample, { generator }).prevSample
    return sample
  })
}

describe('the schedule and every step have the bits of diffusers', () => {
  test.for(equal)('$name', (entry) => {
    const scheduler = configure(entry)
    expect(base64(scheduler.sigmas)).toBe(entry.sigmas)
    expect(base64(scheduler.timesteps)).toBe(entry.timesteps)
    expect(scheduler.order).toBe(entry.order)
    const samples = walk(scheduler)
    expect(samples.map(({ data }) => sha256(data))).toEqual(entry.trajectory_sha256)
    expect(base64(samples.at(-1)!.data)).toBe(entry.final)
  })
})

describe('beta sigmas are within 1e-6 of diffusers', () => {
  test.for(close)('$name', (entry) => {
    const scheduler = configure(entry)
    const difference = (ours: Float32Array, reference: string): number =>
      Math.max(...fromBase64(reference).map((value, i) => Math.abs(value - ours[i]!)))
    expect(scheduler.sigmas).toHaveLength(fromBase64(entry.sigmas).length)
    expect(difference(scheduler.sigmas, entry.sigmas)).toBeLessThanOrEqual(1e-6)
    expect(difference(scheduler.timesteps, entry.timesteps)).toBeLessThanOrEqual(1e-3)
    expect(difference(walk(scheduler).at(-1)!.data, entry.final)).toBeLessThanOrEqual(1e-5)
  })
})

describe('what diffusers refuses is refused', () => {
  const messages: Record<string, string> = {
    'dynamic-no-mu': 'Expected mu to be a number with useDynamicShifting, got undefined',
    'sigmas-and-wrong-n': 'Expected sigmas of 3 values, got 2',
  }
  test.for(errors)('$name', (entry) => {
    expect(() => configure(entry)).toThrow(messages[entry.name])
    expect(messages).toHaveProperty(entry.name)
  })
})

describe('scaleNoise has the bits of diffusers', () => {
  const cases: readonly {
    num_inference_steps: number
    index: number
    sample_seed: number
    noise_seed: number
    out: string
  }[] = JSON.parse(readGolden('scale_noise'))
  test.for(cases)('at step $index', (entry) => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
    scheduler.setTimesteps(entry.num_inference_steps)
    const timestep = scheduler.timesteps[entry.index]!
    expect(base64(scheduler.scaleNoise(latents(entry.sample_seed), [timestep], latents(entry.noise_seed)).data)).toBe(entry.out)
  })
})

function scheduleOf(steps: number): FlowMatchEulerDiscreteScheduler {
  const scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
  scheduler.setTimesteps(steps)
  return scheduler
}

test('before setTimesteps the schedule is that of training', () => {
  const scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
  expect(scheduler.timesteps).toHaveLength(1000)
  expect(scheduler.sigmaMax).toBe(1)
  expect(scheduler.sigmaMin).toBe(0.002994012087583542)
  expect(scheduler.numInferenceSteps).toBeUndefined()
  expect(new FlowMatchEulerDiscreteScheduler({ useDynamicShifting: true }).sigmaMin).toBe(0.0010000000474974513)
})

test('step changes neither of its tensors and counts its steps', () => {
  const scheduler = scheduleOf(4)
  const [output, sample] = [latents(1), latents(2)]
  scheduler.step(output, scheduler.timesteps[0]!, sample)
  expect(output).toEqual(latents(1))
  expect(sample).toEqual(latents(2))
  expect(scheduler.stepIndex).toBe(1)
})

test('a walk starts at the step of the timestep, or at the begin index when there is one', () => {
  const byTimestep = scheduleOf(10)
  const [output, sample] = [latents(1), latents(2)]
  const expected = byTimestep.step(output, byTimestep.timesteps[6]!, sample).prevSample
  expect(byTimestep.stepIndex).toBe(7)

  const byIndex = scheduleOf(10)
  byIndex.setBeginIndex(6)
  expect(byIndex.step(output, byIndex.timesteps[0]!, sample).prevSample).toEqual(expected)
  expect(byIndex.stepIndex).toBe(7)
})

test('setTimesteps forgets the previous walk', () => {
  const scheduler = scheduleOf(4)
  scheduler.setBeginIndex(2)
  scheduler.step(latents(1), scheduler.timesteps[2]!, latents(2))
  scheduler.setTimesteps(3)
  expect([scheduler.stepIndex, scheduler.beginIndex, scheduler.numInferenceSteps]).toEqual([undefined, undefined, 3])
})

test('the second index counts for a timestep that occurs twice', () => {
  const scheduler = new FlowMatchEulerDiscreteScheduler()
  scheduler.setTimesteps(undefined, { timesteps: [900, 500, 500, 100] })
  expect(scheduler.indexForTimestep(500)).toBe(2)
  expect(scheduler.indexForTimestep(900)).toBe(0)
})

test('a shift set after construction changes the next schedule like a configured one', () => {
  const scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
  scheduler.shift = 1
  scheduler.setTimesteps(undefined, { sigmas: [0.75, 0.5] })
  expect(scheduler.sigmas).toEqual(Float32Array.of(0.75, 0.5, 0))
})

test('a clone has the same state and walks on independently', () => {
  const original = scheduleOf(6)
  original.shift = 2
  original.setBeginIndex(1)
  original.step(latents(1), original.timesteps[0]!, latents(2))
  const before = scheduleOf(6)
  const copy = original.clone()
  expect(copy).toEqual(original)
  expect([copy.shift, copy.beginIndex, copy.stepIndex]).toEqual([2, 1, 2])
  copy.timesteps.fill(0)
  copy.sigmas.fill(0)
  copy.setBeginIndex(0)
  copy.setTimesteps(3)
  expect([original.timesteps, original.sigmas]).toEqual([before.timesteps, before.sigmas])
  expect([original.stepIndex, original.beginIndex]).toEqual([2, 1])
})

test('a float16 step rounds the level difference and the product to float16, and adds in float32', () => {
  const scheduler = scheduleOf(4)
  const output = randnTensor([1, 64], new Generator(1), 'float16')
  const sample = randnTensor([1, 64], new Generator(2), 'float16')
  const dt = roundToFloat16(Math.fround(scheduler.sigmas[1]! - scheduler.sigmas[0]!))
  const expected = sample.data.map((x, i) => roundToFloat16(Math.fround(x + roundToFloat16(dt * output.data[i]!))))
  const { prevSample } = scheduler.step(output, 1000, sample)
  expect(prevSample.dtype).toBe('float16')
  expect(prevSample.data).toEqual(expected)
  // The rule matters: some values differ when the difference is not rounded.
  const unrounded = Math.fround(scheduler.sigmas[1]! - scheduler.sigmas[0]!)
  expect(sample.data.map((x, i) => roundToFloat16(x + unrounded * output.data[i]!))).not.toEqual(expected)
})

describe('a step of a guided float16 output', () => {
  const half = (seed: number, rows: number) => randnTensor([rows, 16, 8, 8], new Generator(seed), 'float16')
  const [uncond, cond, sample] = [half(1, 3), half(2, 3), half(3, 3)]
  const guided = { uncond: splitRows(uncond), cond: splitRows(cond), scale: 4.3 }
  const scheduled = (scheduler: FlowMatchEulerDiscreteScheduler): FlowMatchEulerDiscreteScheduler => {
    scheduler.setTimesteps(7)
    return scheduler
  }

  test('has the bits of guidance followed by a step, and counts its steps', () => {
    const [together, apart] = [scheduled(new FlowMatchEulerDiscreteScheduler()), scheduled(new FlowMatchEulerDiscreteScheduler())]
    const noise = new Tensor(mixFloat16(uncond.bits, cond.bits, Math.fround(4.3)), uncond.dims, 'float16')
    let [ofTogether, ofApart] = [sample, sample]
    for (const timestep of together.timesteps) {
      ofTogether = together.stepGuided(guided, timestep, ofTogether)!.prevSample
      ofApart = apart.step(noise, timestep, ofApart).prevSample
      expect(ofTogether).toMatchObject({ dims: sample.dims, dtype: 'float16' })
      expect(ofTogether.bits).toEqual(ofApart.bits)
      expect(together.stepIndex).toBe(apart.stepIndex)
    }
    expect(sample.bits).toEqual(half(3, 3).bits)
    const [spare, other] = [half(4, 3), half(5, 1)]
    const [reused, anew] = [spare, other].map((given) => {
      const seen = { ...guided, sample: splitRows(half(3, 3)) }
      return scheduled(new FlowMatchEulerDiscreteScheduler()).stepGuided(seen, together.timesteps[0]!, sample, given)!.prevSample
    })
    expect([reused!.values === spare.values, anew!.values === other.values]).toEqual([true, false])
    expect(reused!.bits).toEqual(anew!.bits)
    expect(() => together.stepGuided(guided, 1000, sample)).toThrow('Expected at most 7 steps in this schedule, got step 8')
  })

  test('is left to the caller in float32, with stochastic sampling, and where a class or an object has a step of its own', () => {
    class Watching extends FlowMatchEulerDiscreteScheduler {
      override step(...args: Parameters<FlowMatchEulerDiscreteScheduler['step']>) {
        return super.step(...args)
      }
    }
    const plain = scheduled(new FlowMatchEulerDiscreteScheduler())
    const replaced = scheduled(new FlowMatchEulerDiscreteScheduler())
    replaced.step = () => ({ prevSample: sample })
    const stochastic = scheduled(new FlowMatchEulerDiscreteScheduler({ stochasticSampling: true }))
    const floats = new Tensor(sample.data.slice(), sample.dims)
    for (const [scheduler, given] of [
      [plain, floats],
      [scheduled(new Watching()), sample],
      [replaced, sample],
      [stochastic, sample],
    ] as const) {
      expect(scheduler.stepGuided(guided, 1000, given)).toBeUndefined()
      expect(scheduler.stepIndex).toBeUndefined()
    }
  })

  test('with other rows than the sample is refused', () => {
    const scheduler = scheduled(new FlowMatchEulerDiscreteScheduler())
    expect(() => scheduler.stepGuided({ ...guided, cond: guided.cond.slice(1) }, 1000, sample)).toThrow('Expected cond of 3 rows, got 2')
    const flat = guided.uncond.map(({ values }) => new Tensor(values, [1, 1024], 'float16'))
    expect(() => scheduler.stepGuided({ ...guided, uncond: flat }, 1000, sample)).toThrow('Expected uncond of dims [1, 16, 8, 8]')
    expect(() => scheduler.stepGuided({ ...guided, sample: flat }, 1000, sample)).toThrow('Expected sample of dims [1, 16, 8, 8]')
  })
})

test('a float32 sample with a float16 model output gives a float16 sample', () => {
  const scheduler = scheduleOf(4)
  const output = randnTensor([1, 16], new Generator(1), 'float16')
  expect(scheduler.step(output, 1000, randn([1, 16], new Generator(2))).prevSample.dtype).toBe('float16')
})

test('float16 noise is scaled with every operation in float16', () => {
  const scheduler = scheduleOf(10)
  const [sample, noise] = [1, 2].map((seed) => randnTensor([1, 32], new Generator(seed), 'float16'))
  const sigma = roundToFloat16(scheduler.sigmas[3]!)
  const scaled = scheduler.scaleNoise(sample!, [scheduler.timesteps[3]!], noise!)
  expect(scaled.data).toEqual(
    sample!.data.map((x, i) => roundToFloat16(roundToFloat16(sigma * noise!.data[i]!) + roundToFloat16(roundToFloat16(1 - sigma) * x))),
  )
})

test('scaleNoise takes a level for each row, or the place in the walk once there is one', () => {
  const scheduler = scheduleOf(10)
  const rows = new Tensor(new Float32Array(4).fill(1), [2, 2])
  const zeros = new Tensor(new Float32Array(4), [2, 2])
  const [first, last] = [scheduler.timesteps[2]!, scheduler.timesteps[8]!]
  const kept = (index: number): number => Math.fround(1 - scheduler.sigmas[index]!)
  expect(scheduler.scaleNoise(rows, [first, last], zeros).data).toEqual(Float32Array.of(kept(2), kept(2), kept(8), kept(8)))
  scheduler.setBeginIndex(5)
  expect(scheduler.scaleNoise(rows, [first], zeros).data).toEqual(new Float32Array(4).fill(kept(5)))
  scheduler.step(zeros, first, rows)
  expect(scheduler.scaleNoise(rows, [first], zeros).data).toEqual(new Float32Array(4).fill(kept(6)))
})

test.for([0, -1, 2.5, Number.NaN, Infinity])('%s steps are refused', (steps) => {
  expect(() => new FlowMatchEulerDiscreteScheduler().setTimesteps(steps)).toThrow(
    `Expected numInferenceSteps to be an integer from 1 up, got ${steps}`,
  )
})

test.for([
  [undefined, {}, 'Expected numInferenceSteps, sigmas or timesteps, got none of them'],
  [undefined, { sigmas: [] }, 'Expected numInferenceSteps to be an integer from 1 up, got 0'],
  [undefined, { sigmas: [1, Number.NaN] }, 'Expected sigmas of finite numbers, got NaN'],
  [undefined, { timesteps: [Infinity] }, 'Expected timesteps of finite numbers, got Infinity'],
  [3, { timesteps: [900] }, 'Expected timesteps of 3 values, got 1'],
  [undefined, { sigmas: [0.9], timesteps: [900] }, 'Expected sigmas or timesteps, got both'],
  [4, { mu: Number.NaN }, 'Expected mu to be a finite number, got NaN'],
] as const)('setTimesteps(%s, %o) is refused', ([steps, options, message]) => {
  expect(() => new FlowMatchEulerDiscreteScheduler().setTimesteps(steps, options)).toThrow(message)
})

test('a refused schedule leaves the one before it in place', () => {
  const scheduler = scheduleOf(4)
  expect(() => scheduler.setTimesteps(0)).toThrow(RangeError)
  expect(scheduler).toEqual(scheduleOf(4))
})

test('a single level cannot be stretched, which is an error instead of NaN', () => {
  const scheduler = new FlowMatchEulerDiscreteScheduler({ shiftTerminal: 0.1 })
  expect(() => scheduler.setTimesteps(1)).toThrow('Expected a schedule of finite sigmas, got NaN at step 0')
})

test('stochastic sampling with a generator for each row gives each row what it gets alone', () => {
  const step = (rows: number, generator: Generator | Generator[]): Float32Array => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ stochasticSampling: true })
    scheduler.setTimesteps(2)
    const ones = new Tensor(new Float32Array(rows * 16).fill(1), [rows, 16])
    return scheduler.step(ones, 1000, ones, { generator }).prevSample.data
  }
  const together = step(2, [new Generator(1), new Generator(2)])
  expect(together.slice(0, 16)).toEqual(step(1, new Generator(1)))
  expect(together.slice(16)).toEqual(step(1, new Generator(2)))
})

test('a stochastic float16 step rounds the level, the product and the result to float16', () => {
  const scheduler = new FlowMatchEulerDiscreteScheduler({ stochasticSampling: true })
  scheduler.setTimesteps(7)
  scheduler.setBeginIndex(3)
  const [output, sample] = [1, 2].map((seed) => randnTensor([1, 4096], new Generator(seed), 'float16'))
  const noise = randn([1, 4096], new Generator(3)).data
  const f32 = Math.fround
  const [sigma, next] = [roundToFloat16(scheduler.sigmas[3]!), scheduler.sigmas[4]!]
  const { prevSample } = scheduler.step(output!, 0, sample!, { generator: new Generator(3) })
  expect(prevSample.dtype).toBe('float16')
  expect(prevSample.data).toEqual(
    sample!.data.map((x, i) => {
      const clean = f32(x - roundToFloat16(sigma * output!.data[i]!))
      return roundToFloat16(f32(f32(f32(1 - next) * clean) + f32(next * noise[i]!)))
    }),
  )
})

test('bad steps are refused: other dims, unknown timestep, one too many, noise without a generator', () => {
  const scheduler = scheduleOf(2)
  const sample = latents(1)
  const other = new Tensor(sample.data, [16, 16])
  expect(() => scheduler.step(other, 1000, sample)).toThrow('Expected modelOutput of dims [1, 16, 4, 4], got [16, 16]')
  expect(() => scheduler.scaleNoise(sample, [1000], other)).toThrow('Expected noise of dims')
  expect(() => scheduler.scaleNoise(sample, [1000, 1000], sample)).toThrow('Expected 1 timestep')
  const half = new Tensor(new Float32Array(256), sample.dims, 'float16')
  expect(() => scheduler.scaleNoise(sample, [1000], half)).toThrow('Expected noise of float32, got float16')
  expect(() => scheduler.step(sample, 999, sample)).toThrow("Expected timestep to be one of the schedule's, got 999")
  expect(() => scheduler.setBeginIndex(2)).toThrow('Expected beginIndex from 0 to 1, got 2')
  walk(scheduler)
  expect(() => scheduler.step(sample, 1000, sample)).toThrow('Expected at most 2 steps in this schedule, got step 3')

  const stochastic = new FlowMatchEulerDiscreteScheduler({ stochasticSampling: true })
  stochastic.setTimesteps(2)
  expect(() => stochastic.step(sample, 1000, sample)).toThrow('Expected options.generator with stochasticSampling, got undefined')
})
