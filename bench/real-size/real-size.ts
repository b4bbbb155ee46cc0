/**
 * `npm run bench -- real-size [FOLDER]`: a model of Stable Diffusion 3.5 medium's exact shapes, with random weights, on this machine without a GPU:
 * from its start to a picture through HTTP, with progress, cancel, the memory it takes, two workers at once, and beside it torch's own
 * transformer on the same weights; then 3.5 large's transformer. The models, 16 GB each, are written to the folder at the first run and stay
 * there.
 *
 * Prints the results as a table and last as one line of JSON; ends with 1 when a job did not end as it should. Linux only.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Job } from '@easel/contract'
import { median } from '../harness/rounds.ts'
import { describeHardware, describeLoad, readCommit } from '../harness/report.ts'
import { openStack } from '../stack/open-stack.ts'
import type { BenchWorker, Stack } from '../stack/open-stack.ts'
import { measureProduct } from './arithmetic.ts'
import { childrenOf, readMemory, readProportionalMib } from './process-memory.ts'
import { prepareRandomModel } from './random-model.ts'
import { runForward, runTorch } from './run-forward.ts'

const pollMs = 100
/** The peak memory of torch, relative to its weights. */
const torchShare = 1.5
/** 77 tokens of CLIP and 256 of T5. */
const textTokens = 333
const request = {
  prompt: 'a red boat on the sea',
  num_inference_steps: 4,
  width: 512,
  height: 512,
  guidance_scale: 4.5,
  max_sequence_length: 256,
  seed: 1,
}
/** What `npm run bench -- real-size` prints: one line for each value, with its target where there is one. */
type Findings = Record<string, number | string>

export async function runRealSize(folder = join(tmpdir(), 'easel-real-size')): Promise<number> {
  console.log(`Easel at real size, commit ${readCommit()}, ${describeHardware()}, ${describeLoad()}; models in ${folder}`)
  const findings: Findings = {}
  const note = (name: string, value: number | string): void => {
    findings[name] = typeof value === 'number' ? Number(value.toPrecision(4)) : value
    console.log(`${name}: ${findings[name]}`)
  }
  const model = await prepareRandomModel(folder, 'sd35-medium')
  const cacheDir = await mkdtemp(join(tmpdir(), 'easel-real-size-cache-'))
  try {
    await measureService(model, cacheDir, note)
  } finally {
    await rm(cacheDir, { recursive: true })
  }
  await measureForward('3.5 medium, 2 rows, 512 px', { folder: model, side: 512, rows: 2 }, note)
  const large = await prepareRandomModel(folder, 'sd35-large-transformer')
  await measureForward('3.5 large, 1 row, 256 px', { folder: large, side: 256, rows: 1 }, note)
  console.log(describeLoad())
  console.log(JSON.stringify({ commit: readCommit(), hardware: describeHardware(), findings }))
  return 0
}

async function measureService(model: string, cacheDir: string, note: (name: string, value: number | string) => void): Promise<void> {
  const worker = { model, cacheDir, concurrency: 1 }
  const start = async (name: string, workers: number): Promise<Stack> => {
    const startedAt = performance.now()
    const stack = await openStack(Array.from({ length: workers }, () => worker))
    note(`${name}, s from nothing to ready`, (performance.now() - startedAt) / 1000)
    return stack
  }

  // 1. One start without the caches, and one with them
  const startedAt = performance.now()
  const first = await start('first start', 1)
  await untilHashed(cacheDir)
  note('first start, s until the hash is known', (performance.now() - startedAt) / 1000)
  await first.close()
  const one = await start('later start', 1)
  try {
    // 2. A picture
    const memory = watchEngine(one.workers[0] as BenchWorker)
    const { job, seen, told } = await follow(one, await submit(one))
    if (job.status !== 'succeeded') throw new Error(`Expected a picture, got ${JSON.stringify(job)}`)
    const { encode_ms = 0, denoise_ms = 0, decode_ms = 0, total_ms = 0 } = job.timings ?? {}
    note('a picture of 4 steps at 512 px: s in all', (total_ms ?? 0) / 1000)
    note('s of texts', (encode_ms ?? 0) / 1000)
    note('s a step', (denoise_ms ?? 0) / 4000)
    note('s of decoding', (decode_ms ?? 0) / 1000)
    note('steps seen by polling', seen.join(', '))
    note('last eta_seconds at each step, and s that were left', told.join('; '))
    for (const [phase, mib] of Object.entries(memory())) note(`engine's own memory at most, ${phase}, MiB`, mib)
    note('mapped beside it, MiB', readMemory(engineOf(one.workers[0] as BenchWorker)).mappedMib)
  } finally {
    await one.close()
  }

  // 3. Two workers share the weights, and their jobs are canceled in the middle
  const two = await start('two workers', 2)
  try {
    const ids = await Promise.all([submit(two), submit(two)])
    await Promise.all(ids.map((id) => follow(two, id, ({ progress }) => (progress?.step ?? 0) > 0)))
    const engines = two.workers.map(engineOf)
    note('proportional memory (PSS) of two engines, MiB', engines.map((pid) => readProportionalMib(pid).toFixed(0)).join(', '))
    note('their resident memory, MiB', engines.map((pid) => toResident(pid).toFixed(0)).join(', '))
    const canceledAt = performance.now()
    for (const id of ids) await ask(two, 'POST', `/v1/jobs/${id}/cancel`)
    for (const { job } of await Promise.all(ids.map((id) => follow(two, id))))
      if (job.status !== 'canceled') throw new Error(`Expected a canceled job, got ${job.status}`)
    note('s from cancel to canceled, two steps at once', (performance.now() - canceledAt) / 1000)
  } finally {
    await two.close()
  }
}

async function submit(stack: Stack): Promise<string> {
  return (await ask(stack, 'POST', '/v1/jobs', request)).id
}

async function ask(stack: Stack, method: 'GET' | 'POST', path: string, body?: unknown): Promise<Job> {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const response = await fetch(`${stack.url}${path}`, { method, ...json })
  if (!response.ok) throw new Error(`Expected ${method} ${path} to be answered, got ${response.status}: ${await response.text()}`)
  return (await response.json()) as Job
}

/**
 * Polls until the job has ended, or until `isEnough`. `seen`: the steps that polling saw. `told`: for each of them, the last estimate and the number
 * of seconds that were really left then.
 */
async function follow(
  stack: Stack,
  id: string,
  isEnough: (job: Job) => boolean = () => false,
): Promise<{ job: Job; seen: number[]; told: string[] }> {
  const seen: number[] = []
  const estimates = new Map<number, { etaSeconds: number; at: number }>()
  const end = (job: Job) => {
    const leftAt = (at: number): string => ((performance.now() - at) / 1000).toFixed(0)
    return { job, seen, told: [...estimates].map(([step, { etaSeconds, at }]) => `${step}: ${etaSeconds}, ${leftAt(at)}`) }
  }
  for (;;) {
    const job = await ask(stack, 'GET', `/v1/jobs/${id}`)
    const step = job.progress?.step
    if (step !== undefined && step !== seen.at(-1)) seen.push(step)
    if (step !== undefined && job.eta_seconds !== null) estimates.set(step, { etaSeconds: job.eta_seconds, at: performance.now() })
    if ((job.status !== 'queued' && job.status !== 'running') || isEnough(job)) return end(job)
    await sleep(pollMs)
  }
}

/** Waits until the model's hash is known, which is when it appears in the cache. */
async function untilHashed(cacheDir: string): Promise<void> {
  while (!(await readdir(cacheDir)).some((name) => name.startsWith('model-hash-'))) await sleep(pollMs)
}

function engineOf({ pid }: BenchWorker): number {
  const [engine, ...others] = childrenOf(pid)
  if (engine === undefined || others.length > 0) throw new Error(`Expected a worker with one engine process, got ${1 + others.length}`)
  return engine
}

function toResident(pid: number): number {
  const { ownMib, mappedMib } = readMemory(pid)
  return ownMib + mappedMib
}

/** The maximum of the engine's own memory since the first call, in MiB. */
function watchEngine(worker: BenchWorker): () => Record<string, number> {
  const pid = engineOf(worker)
  const most = { loaded: readMemory(pid).ownMib, 'at work': 0 }
  const timer = setInterval(() => (most['at work'] = Math.max(most['at work'], readMemory(pid).ownMib)), pollMs)
  return () => {
    clearInterval(timer)
    return most
  }
}

async function measureForward(
  name: string,
  { folder, side, rows }: { folder: string; side: number; rows: number },
  note: (name: string, value: number | string) => void,
): Promise<void> {
  const own = await runForward({ folder, weights: 'mapped', operators: 'chosen', side, rows, tokens: textTokens, runs: 2 })
  if (!own.finite) throw new Error(`Expected numbers of ${folder}, got others`)
  note(`${name}: s to write the graph`, own.writeMs / 1000)
  note(`${name}: s to load`, own.loadMs / 1000)
  note(`${name}: s a run`, median(own.runMs) / 1000)
  note(`${name}: 10^9 operations a second of a run`, own.operations / 1e6 / median(own.runMs))
  note(`${name}: the same of one product of matrices in the same runtime`, (await measureProduct(own.size)) / 1e9)
  note(`${name}: own memory, MiB`, own.ownMib)
  note(`${name}: mapped, MiB`, own.mappedMib)
  // Twice the size of the bfloat16 weights, for float32, times torch's peak.
  const torchMib = own.mappedMib * 2 * torchShare
  const thereMib = process.availableMemory() / 2 ** 20
  if (torchMib > thereMib)
    return note(`${name}: torch float32`, `not run: it needs some ${Math.round(torchMib)} MiB, ${Math.round(thereMib)} are available`)
  const torch = await runTorch({ folder, side, rows, tokens: textTokens, runs: 2 })
  if (torch === undefined) return console.log('no Python with torch and diffusers: nothing to compare with (PYTHON names another one)')
  note(`${name}: torch float32, s a run`, median(torch.runMs) / 1000)
  note(`${name}: torch float32, MiB`, torch.residentMib)
  note(`${name}: time of a run / torch, target <= 0.60`, median(own.runMs) / median(torch.runMs))
  note(`${name}: processor time of a run / torch`, median(own.cpuMs) / median(torch.cpuMs))
  note(`${name}: all memory / torch, target <= 0.35`, (own.ownMib + own.mappedMib) / torch.residentMib)
}
