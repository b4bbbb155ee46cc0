/**
 * A real shortage of memory: the operating system refuses to give the engine process more (`RLIMIT_DATA`), so that the runtime's own allocations
 * fail. Linux only. engine-memory.test.ts tests how a worker reacts to failures at chosen moments.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { platform } from 'node:os'
import { afterEach, describe, expect, test } from 'vitest'
import type { EngineError } from '../src/engine/engine.ts'
import { startEngine } from '../src/engine/engine-supervisor.ts'
import type { EngineSupervisor } from '../src/engine/engine-supervisor.ts'
import { openWorkerBench, modelsDir } from './worker-bench.ts'

const canLimit = platform() === 'linux' && spawnSync('prlimit', ['--version']).status === 0

/** From now on the process can get only this many MiB more. */
function limitMemory(pid: number | undefined, headroomMib: number): void {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytes = Number(/^VmData:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
  execFileSync('prlimit', ['--pid', String(pid), `--data=${bytes + headroomMib * 2 ** 20}`])
}

const large = { width: 256, height: 256 } as const

describe.runIf(canLimit)('an engine that gets no more memory', () => {
  const engines: EngineSupervisor[] = []
  afterEach(async () => void (await Promise.all(engines.splice(0).map((engine) => engine.close()))))

  /** An engine that has made a small picture. */
  async function start(): Promise<EngineSupervisor> {
    const engine = await startEngine({ model: 'tiny-scenes', modelsDir, device: 'cpu', stepTimeoutMs: 60_000 })
    engines.push(engine)
    await paint(engine, 0, { width: 64, height: 64 })
    return engine
  }

  async function paint(engine: EngineSupervisor, seed: number, size: { width: number; height: number } = large): Promise<Uint8Array> {
    const rest = { numInferenceSteps: 2, guidanceScale: 4, numImagesPerPrompt: 1, maxSequenceLength: 20 }
    const { images } = await engine.generate(`call ${seed}`, { prompt: `boat ${seed}`, negativePrompt: '', seed, ...size, ...rest })
    return images[0]?.rgb as Uint8Array
  }

  test('makes smaller steps and the same pictures, fails what does not fit at all, and serves the next call', async () => {
    const seeds = Array.from({ length: 12 }, (_, n) => n + 1)
    const plenty = await start()
    const expected = await Promise.all(seeds.map((seed) => paint(plenty, seed)))
    let shortages = 0
    // How much a run takes differs between machines, so each fresh process gets less memory until it is too little.
    for (const headroomMib of [60, 40, 20]) {
      if (shortages > 0) break
      const scarce = await start()
      limitMemory(scarce.pid, headroomMib)
      const results = await Promise.allSettled(seeds.map((seed) => paint(scarce, seed)))
      const wrong = results.filter(
        (result, index) => result.status === 'fulfilled' && !Buffer.from(result.value).equals(expected[index] as Uint8Array),
      )
      expect(wrong).toEqual([])
      const failures = results.flatMap((result) => (result.status === 'rejected' ? [(result.reason as EngineError).code] : []))
      // Where it is Node.js itself that finds no memory, the process ends, and its count with it.
      expect(failures.filter((code) => code !== 'out_of_memory' && code !== 'engine_crashed')).toEqual([])
      shortages = (await scarce.stats()).pipeline.shortages + failures.length
      await expect(paint(scarce, 0, { width: 64, height: 64 })).resolves.toBeInstanceOf(Uint8Array)
    }
    expect(shortages).toBeGreaterThan(0)
  })
})

test.runIf(canLimit)('a job that finds no memory is run by a fresh engine, which makes the same picture', async () => {
  const bench = await openWorkerBench()
  try {
    const worker = await bench.startWorker()
    await bench.untilEnded(await bench.submit())
    const first = worker.enginePid
    limitMemory(first, 15)
    const record = await bench.untilEnded(await bench.submit(large))
    // Where it is Node.js itself that finds no memory, the process ends and the job has a strike.
    expect(record).toMatchObject({ status: 'succeeded', runs: 1 })
    expect(worker.enginePid).not.toBe(first)
    const again = await bench.untilEnded(await bench.submit(large))
    expect(again.output?.images[0]?.sha256).toBe(record.output?.images[0]?.sha256)
  } finally {
    await bench.close()
  }
})
