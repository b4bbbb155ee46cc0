/**
 * `npm run bench -- gpu [FOLDER]`: how Easel performs on this machine's GPU. First WebGPU: a picture of the embedded model against the same picture
 * on the CPU. Then CUDA: the transformer of Stable Diffusion 3.5 medium in its exact shapes with random weights, in float16 at 1024 px and 1, 2, 4
 * and 8 rows, against torch's own on the same weights in bfloat16, as it is and compiled.
 *
 * `npm run bench -- gpu rehearse`: the same with small models, CUDA's part on the CPU, WebGPU's on any adapter; for a machine without a GPU.
 *
 * Prints what it finds, and last one line of JSON. Ends with 1 when there was nothing to measure on. How to prepare a machine: README.md.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Rgb8Image, Tensor } from '@easel/pipeline'
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import { resolveDevice } from '../../packages/pipeline/src/models/device.ts'
import { median } from '../harness/rounds.ts'
import { describeHardware, describeLoad, readCommit } from '../harness/report.ts'
import { modelName, modelsDir } from '../load/bench-model.ts'
import { prepareRandomModel } from '../real-size/random-model.ts'
import { runForward, runTorch } from '../real-size/run-forward.ts'
import { watchGpuMemory } from './watch-gpu-memory.ts'

type Note = (name: string, value: number | string) => void

/** The model that the CUDA part runs. */
interface ForwardPlan {
  /** The folder of a model whose transformer is in float16 or bfloat16. */
  readonly folder: () => Promise<string>
  readonly device: 'cuda' | 'cpu'
  readonly computeType: 'float16' | 'float32'
  readonly torchDtype: 'bfloat16' | 'float32'
  /** Pixels. */
  readonly side: number
  readonly rows: readonly number[]
  readonly tokens: number
}

const smallModel = fileURLToPath(new URL('../../packages/pipeline/test/models/sd35-medium-kind', import.meta.url))
const rehearsal: ForwardPlan = {
  folder: async () => smallModel,
  device: 'cpu',
  computeType: 'float32',
  torchDtype: 'float32',
  side: 64,
  rows: [1, 2],
  tokens: 20,
}
const runsPerSize = 5
/** The largest differences that count as equal: of a value in the latents after all steps, and of a pixel, in levels. */
const latentTolerance = 1e-3
const pixelTolerance = 1

export async function runGpu(word = join(tmpdir(), 'easel-gpu')): Promise<number> {
  const isRehearsal = word === 'rehearse'
  console.log(`Easel on a GPU, commit ${readCommit()}, ${describeHardware()}, ${describeLoad()}`)
  const findings: Record<string, number | string> = {}
  const note: Note = (name, value) => {
    findings[name] = typeof value === 'number' ? Number(value.toPrecision(4)) : value
    console.log(`${name}: ${findings[name]}`)
  }
  const absent: string[] = []
  // 'auto' never chooses WebGPU in software, but a rehearsal may use it.
  const auto = await resolveDevice('auto')
  const webgpu = isRehearsal || auto.provider !== 'cpu' ? await failureOf('webgpu') : 'no GPU, only software rendering'
  if (webgpu === undefined) await compareWebgpu(isRehearsal, note)
  else absent.push(`WebGPU: ${webgpu}`)

  const real: ForwardPlan = {
    folder: () => prepareRandomModel(word, 'sd35-medium-transformer'),
    device: 'cuda',
    computeType: 'float16',
    torchDtype: 'bfloat16',
    side: 1024,
    rows: [1, 2, 4, 8],
    tokens: 333,
  }
  const cuda = isRehearsal ? undefined : await failureOf('cuda')
  if (cuda === undefined) await compareForwards(isRehearsal ? rehearsal : real, note)
  else absent.push(`CUDA: ${cuda}`)

  for (const part of absent) console.log(`not measured: ${part}`)
  if (Object.keys(findings).length === 0) {
    console.log('No GPU works here, so nothing was measured.')
    return 1
  }
  console.log(JSON.stringify({ commit: readCommit(), hardware: describeHardware(), findings }))
  return 0
}

async function failureOf(device: 'webgpu' | 'cuda'): Promise<string | undefined> {
  try {
    await resolveDevice(device)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

async function compareWebgpu(isRehearsal: boolean, note: Note): Promise<void> {
  const [width, numInferenceSteps] = isRehearsal ? [64, 2] : [128, 20]
  const draw = async (device: 'cpu' | 'webgpu') => {
    const pipe = await StableDiffusion3Pipeline.fromPretrained(modelName, { device, modelsDir })
    const request = { prompt: 'a red boat on the sea', seed: 42, width, height: width, numInferenceSteps }
    try {
      // The first run compiles shaders.
      await pipe.generate(request)
      const { latents } = await pipe.generate({ ...request, outputType: 'latent' })
      const startedAt = performance.now()
      const { images } = await pipe.generate(request)
      return { latents: latents as Tensor, image: images[0] as Rgb8Image, ms: performance.now() - startedAt }
    } finally {
      await pipe.close()
    }
  }
  const [cpu, webgpu] = [await draw('cpu'), await draw('webgpu')]
  const latent = largestDifference(cpu.latents.data, webgpu.latents.data)
  const pixel = largestDifference(cpu.image.data, webgpu.image.data)
  note(`WebGPU, ${width} px, ${numInferenceSteps} steps: ms a picture`, webgpu.ms)
  note('the same on the CPU', cpu.ms)
  note(`largest difference of the latents, target <= ${latentTolerance}`, latent)
  note(`largest difference of a pixel, levels, target <= ${pixelTolerance}`, pixel)
  note('WebGPU gives the picture of the CPU', latent <= latentTolerance && pixel <= pixelTolerance ? 'yes' : 'no')
}

async function compareForwards(plan: ForwardPlan, note: Note): Promise<void> {
  const { device, computeType, side, tokens } = plan
  const folder = await plan.folder()
  const torch = async (rows: number, compile: boolean): Promise<{ ms: number; mib: number } | undefined> => {
    const memory = await watchGpuMemory()
    try {
      const found = await runTorch({ folder, side, rows, tokens, runs: runsPerSize, device, dtype: plan.torchDtype, compile })
      return found && { ms: median(found.runMs), mib: await memory() }
    } catch (error) {
      // Running out of memory, or a missing compiler, is a result like any other.
      note(`torch${compile ? ', compiled' : ''}, ${rows} rows`, `failed: ${lastLine(error)}`)
      return undefined
    } finally {
      await memory()
    }
  }
  for (const rows of plan.rows) {
    const name = `${device} ${computeType}, ${side} px, ${rows} rows`
    const memory = await watchGpuMemory()
    let ms: number
    try {
      const own = await runForward({
        folder,
        weights: 'packed',
        operators: 'chosen',
        side,
        rows,
        tokens,
        runs: runsPerSize,
        device,
        computeType,
      })
      if (!own.finite) note(name, 'gave values that are not numbers')
      ms = median(own.runMs)
      note(`${name}: ms a step`, ms)
      note(`${name}: MiB of the device`, await memory())
      if (rows === plan.rows[0]) note(`${name}: s to load`, own.loadMs / 1000)
    } catch (error) {
      note(name, `failed: ${lastLine(error)}`)
      continue
    } finally {
      await memory()
    }
    for (const compile of [false, true]) {
      const peer = await torch(rows, compile)
      if (peer === undefined) continue
      const peerName = `torch ${plan.torchDtype}${compile ? ', compiled' : ''}, ${rows} rows`
      note(`${peerName}: ms a step`, peer.ms)
      note(`${peerName}: MiB of the device`, peer.mib)
      note(`${name}: time of a step / ${compile ? 'torch compiled' : 'torch'}`, ms / peer.ms)
    }
  }
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let most = 0
  for (let at = 0; at < a.length; at++) most = Math.max(most, Math.abs((a[at] as number) - (b[at] as number)))
  return most
}

function lastLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().split('\n').at(-1) ?? ''
}
