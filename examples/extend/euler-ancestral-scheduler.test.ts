import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { mkdirSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FlowMatchEulerDiscreteScheduler, Generator, loadPipeline, randn, RequestScopedPipeline } from '@easel/pipeline'
import type { StableDiffusion3Pipeline } from '@easel/pipeline'
import { FlowMatchEulerAncestralDiscreteScheduler, registerFlowMatchEulerAncestral } from './euler-ancestral-scheduler.ts'

const demo = fileURLToPath(new URL('../../models/tiny-scenes', import.meta.url))
const request = { prompt: 'a red boat on the sea', numInferenceSteps: 6, width: 64, height: 64 }
let folder: string
let pipe: StableDiffusion3Pipeline

/** The demo model, with another scheduler in its folder. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-extend-'))
  const others = readdirSync(demo).filter((name) => name !== 'model_index.json' && name !== 'scheduler')
  for (const name of others) await symlink(join(demo, name), join(folder, name))
  const index = JSON.parse(await readFile(join(demo, 'model_index.json'), 'utf8')) as Record<string, unknown>
  const scheduler = JSON.parse(await readFile(join(demo, 'scheduler/scheduler_config.json'), 'utf8')) as Record<string, unknown>
  const name = 'FlowMatchEulerAncestralDiscreteScheduler'
  await writeFile(join(folder, 'model_index.json'), JSON.stringify({ ...index, scheduler: ['easel', name] }))
  mkdirSync(join(folder, 'scheduler'))
  await writeFile(join(folder, 'scheduler/scheduler_config.json'), JSON.stringify({ ...scheduler, _class_name: name, eta: 0.5 }))
  registerFlowMatchEulerAncestral()
  pipe = (await loadPipeline(folder, { device: 'cpu' })) as StableDiffusion3Pipeline
})
afterAll(async () => {
  await pipe?.close()
  await rm(folder, { recursive: true, force: true })
})

const pixels = async (of: { generate: StableDiffusion3Pipeline['generate'] }, seed: number): Promise<Buffer> =>
  Buffer.from((await of.generate({ ...request, seed })).images[0]?.data ?? [])

test('a model that names the scheduler draws with it: the same picture for the same seed, alone and beside other requests', async () => {
  expect(pipe.scheduler).toBeInstanceOf(FlowMatchEulerAncestralDiscreteScheduler)
  const alone = await pixels(pipe, 42)
  const scoped = new RequestScopedPipeline(pipe)
  const together = await Promise.all([42, 43, 44].map(async (seed) => await pixels(scoped, seed)))
  expect(together[0]?.equals(alone)).toBe(true)
  expect(together[1]?.equals(alone)).toBe(false)
  const euler = pipe.cloneForRequest()
  euler.scheduler = new FlowMatchEulerDiscreteScheduler({ shift: 3 })
  expect((await pixels(euler, 42)).equals(alone)).toBe(false)
})

test('without fresh noise, its steps are those of the Euler scheduler', () => {
  const [ours, euler] = [new FlowMatchEulerAncestralDiscreteScheduler({ shift: 3 }, 0), new FlowMatchEulerDiscreteScheduler({ shift: 3 })]
  for (const scheduler of [ours, euler]) scheduler.setTimesteps(4)
  const dims = [2, 4, 4, 4]
  let [a, b] = [randn(dims, new Generator(1)), randn(dims, new Generator(1))]
  for (const [step, timestep] of euler.timesteps.entries()) {
    const velocity = randn(dims, new Generator(10 + step))
    a = ours.step(velocity, timestep, a, { generator: new Generator(2) }).prevSample
    b = euler.step(velocity, timestep, b).prevSample
    for (let i = 0; i < a.numel; i++) expect(a.data[i]).toBeCloseTo(b.data[i] ?? NaN, 5)
  }
})

test('after every step a sample has as much noise as its level says, however much of it is fresh', () => {
  for (const eta of [0, 0.5, 1]) {
    const scheduler = new FlowMatchEulerAncestralDiscreteScheduler({ shift: 3 }, eta)
    scheduler.setTimesteps(5)
    // A model that knows the picture, which is all zeros, would predict exactly the noise of the sample.
    let sample = randn([1, 4, 64, 64], new Generator(7))
    const generator = new Generator(8)
    for (const [step, timestep] of scheduler.timesteps.entries()) {
      const sigma = scheduler.sigmas[step]!
      const velocity = sample.clone()
      velocity.data.forEach((value, i) => (velocity.data[i] = value / sigma))
      sample = scheduler.step(velocity, timestep, sample, { generator }).prevSample
      const deviation = Math.sqrt(sample.data.reduce((sum, value) => sum + value ** 2, 0) / sample.numel)
      expect(deviation).toBeCloseTo(scheduler.sigmas[step + 1]!, 1.5)
    }
  }
})

test.for([-0.1, 1.1, 'half', null])('eta of %j is refused', (eta) => {
  expect(() => FlowMatchEulerAncestralDiscreteScheduler.fromConfig({ eta })).toThrow(/eta to be a number from 0 to 1/)
  expect(() => FlowMatchEulerAncestralDiscreteScheduler.fromConfig({ shift: 'three' })).toThrow(/shift/)
})
