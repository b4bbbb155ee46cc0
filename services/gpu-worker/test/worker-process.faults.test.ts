/** The worker as a process, as in production, which is told to stop or killed in the middle of a job. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { JobInput } from '@easel/contract'
import { atStep, endlessInput, longInput, openWorkerBench, pictures, sha } from './worker-bench.ts'
import type { WorkerBench } from './worker-bench.ts'

let bench: WorkerBench
beforeEach(async () => {
  bench = await openWorkerBench()
})
afterEach(async () => bench?.close())

/** Lets jobs of a worker that was killed go to another one soon. */
const shortLock = { JOB_LOCK_DURATION: '4' }

/** Starts the worker as in production, in a process of its own. */
function startMain(env: Record<string, string> = shortLock) {
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main], { env: { ...process.env, ...bench.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  let log = ''
  child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()))
  return { process: child, ended: once(child, 'exit'), log: () => log }
}

/** The hash of the picture from a run that nothing disturbs, by default of `longInput`. Needs a worker. */
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
  test('that is told to stop hands its job over and ends with 0, and ends immediately when it is told twice', async () => {
    const patient = startMain({ SHUTDOWN_GRACE: '0', JOB_LOCK_DURATION: '600' })
    const id = await bench.submit(longInput)
    await bench.until(id, atStep(3))
    patient.process.kill('SIGTERM')
    expect(await patient.ended).toEqual([0, null])
    const hasty = startMain({ SHUTDOWN_GRACE: '600', JOB_LOCK_DURATION: '4' })
    expect(sha(await bench.untilEnded(id))).toBe(await undisturbed())
    const second = await bench.submit(endlessInput)
    await bench.until(second, atStep(3))
    hasty.process.kill('SIGTERM')
    hasty.process.kill('SIGINT')
    expect(await hasty.ended).toEqual([1, null])
    expect(await bench.store.get(second)).toMatchObject({ status: 'running' })
  })

  test('that is killed with SIGKILL takes its engine with it, and another worker ends the job with the same bytes', async () => {
    let id: string
    do {
      const worker = startMain()
      id = await bench.submit(longInput)
      await bench.until(id, atStep(3))
      const enginePid = Number(/"pid":(\d+)[^\n]*"engine is ready"/.exec(worker.log())?.[1])
      expect(isAlive(enginePid)).toBe(true)
      worker.process.kill('SIGKILL')
      await untilGone(enginePid)
      // This process may have been held up until the run was over.
    } while ((await bench.store.get(id))?.status !== 'running')
    await bench.startWorker({ env: shortLock })
    const record = await bench.untilEnded(id)
    expect(record).toMatchObject({ status: 'succeeded', runs: 2, strikes: 0 })
    const expected = await bench.untilEnded(await bench.submit(longInput))
    expect(sha(record)).toBe(sha(expected))
  })

  test.each(['a picture', 'a mask'] as const)(
    'that is killed or told to stop in the middle of a job with %s leaves it to the next, which makes the same bytes',
    async (kind) => {
      const image = await bench.storeInput(await readFile(new URL('pipeline/boat.png', pictures)))
      const mask = await bench.storeInput(await readFile(new URL('img2img/inputs/mask-disc-128.png', pictures)))
      const input = {
        ...longInput,
        num_inference_steps: 200,
        image,
        ...(kind === 'a mask' ? { mask } : {}),
        strength: 0.9,
        fit: 'cover',
      } as const
      const killed = startMain()
      const id = await bench.submit(input)
      await bench.until(id, atStep(3))
      killed.process.kill('SIGKILL')
      await killed.ended
      const patient = startMain({ ...shortLock, SHUTDOWN_GRACE: '0' })
      await bench.until(id, ({ runs }) => runs === 2)
      await bench.until(id, atStep(10))
      patient.process.kill('SIGTERM')
      expect(await patient.ended).toEqual([0, null])
      await bench.startWorker({ env: shortLock })
      const record = await bench.untilEnded(id)
      expect(record).toMatchObject({ status: 'succeeded', runs: 3, progress: { total: 180 } })
      expect(sha(record)).toBe(await undisturbed(input))
    },
  )
})
