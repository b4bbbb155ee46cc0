/** The worker as a process, as in production, told to stop or killed in the middle of a job. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { JobInput } from '@easel/contract'
import { atStep, longInput, openWorkerBench, pictures, sha } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

/** Starts the worker as in production, in a process of its own. */
function startMain(env: Record<string, string> = {}) {
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main], { env: { ...process.env, ...bench.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  let log = ''
  child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()))
  return { process: child, ended: once(child, 'exit'), log: () => log }
}

/** The hash of an undisturbed picture, by default of `longInput`. Needs a worker. */
async function undisturbed(input: Partial<JobInput> = longInput): Promise<string | undefined> {
  return sha(await bench.untilEnded(await bench.submit(input)))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function untilGone(pid: number): Promise<void> {
  while (isAlive(pid)) await sleep(10)
}

describe('a worker process', () => {
  test('told to go hands its job over and ends with 0, told twice ends at once', async () => {
    const patient = startMain({ SHUTDOWN_GRACE: '0', JOB_LOCK_DURATION: '600' })
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(3))
    patient.process.kill('SIGTERM')
    expect(await patient.ended).toEqual([0, null])
    const hasty = startMain({ SHUTDOWN_GRACE: '600', JOB_LOCK_DURATION: '1' })
    expect(sha(await bench.untilEnded(id))).toBe(await undisturbed())
    const second = await bench.submit({ ...longInput, num_inference_steps: 200 })
    await bench.until(second, atStep(3))
    hasty.process.kill('SIGTERM')
    hasty.process.kill('SIGINT')
    expect(await hasty.ended).toEqual([1, null])
    expect(await bench.store.get(second)).toMatchObject({ status: 'running' })
  })

  test('killed with SIGKILL takes its engine with it, and another worker ends the job with the same bytes', async () => {
    const worker = startMain()
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(3))
    const enginePid = Number(/"pid":(\d+)[^\n]*"engine is ready"/.exec(worker.log())?.[1])
    expect(isAlive(enginePid)).toBe(true)
    worker.process.kill('SIGKILL')
    await untilGone(enginePid)
    await bench.startWorker()
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', runs: 2, strikes: 0 })
    const expected = await bench.untilEnded(await bench.submit(longInput))
    expect(sha(record)).toBe(sha(expected))
  })
  test.each(['a picture', 'a mask'] as const)(
    'killed or told to go in the middle of a job with %s leaves it to the next, with the same bytes',
    async (kind) => {
      const image = await bench.storeInput(await readFile(new URL('pipeline/boat.png', pictures)))
      const mask = await bench.storeInput(await readFile(new URL('img2img/inputs/mask-disc-128.png', pictures)))
      const input = { ...longInput, image, ...(kind === 'a mask' ? { mask } : {}), strength: 0.9, fit: 'cover' } as const
      const killed = startMain()
      const id = await bench.submit(input)
      await bench.until(id, atStep(3))
      killed.process.kill('SIGKILL')
      await killed.ended
      const patient = startMain({ SHUTDOWN_GRACE: '0' })
      await bench.until(id, ({ runs }) => runs === 2)
      await bench.until(id, atStep(10))
      patient.process.kill('SIGTERM')
      expect(await patient.ended).toEqual([0, null])
      await bench.startWorker()
      const record = await bench.untilEnded(id)
      expect(record).toMatchObject({ status: 'succeeded', runs: 3, progress: { total: 0.9 * longInput.num_inference_steps } })
      expect(sha(record)).toBe(await undisturbed(input))
    },
  )
})
