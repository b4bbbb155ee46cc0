/** What requests share on one device, on a graph of one line: turns, and what is learnt from a shortage of memory. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { PackedRows } from '../tensor/packed-rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { OutOfMemoryError } from './out-of-memory.ts'
import { Runtime } from './runtime.ts'
import type { StepGraph } from './step-graph.ts'
import type { StepRow } from './step-call.ts'

let cacheDir: string
let runtimes: Runtime[] = []
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'easel-runtime-'))
})
afterEach(async () => {
  await Promise.all(runtimes.map((runtime) => runtime.close()))
  runtimes = []
  await rm(cacheDir, { recursive: true })
})

/** A process that never gives back the memory of its steps: after a step with more than `room` rows nothing else finds any. */
async function startProcess(room: number) {
  let largest = 0
  const graph: StepGraph = {
    dtype: 'float32',
    takesOneTimestep: false,
    fixedRows: undefined,
    layers: undefined,
    run: async ({ rows }: PackedRows) => void (largest = Math.max(largest, rows)),
  }
  const runtime = new Runtime(graph)
  runtimes.push(runtime)
  await runtime.keepStepTimes(cacheDir, ['a model'])
  runtime.batcher.profile.rowsFor = (size, waiting) => Math.min(waiting, runtime.batcher.profile.mostRows(size))
  const work = async (): Promise<string> => {
    if (largest > room) throw new Error('run', { cause: new Error('CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED') })
    return 'done'
  }
  return { runtime, work, largest: () => largest }
}

const row = (): StepRow => ({
  hiddenStates: new Tensor(new Float32Array(4), [1, 1, 2, 2]),
  timestep: 1,
  encoderHiddenStates: new Tensor(new Float32Array(6), [1, 3, 2]),
  pooledProjections: new Tensor(new Float32Array(2), [1, 2]),
})

/** Runs sixteen jobs: a step with all their rows, then a picture for each. Returns how many got their picture. */
async function wave({ runtime, work }: Awaited<ReturnType<typeof startProcess>>): Promise<number> {
  await Promise.all(Array.from({ length: 16 }, () => runtime.batcher.forward([row()])))
  const pictures = await Promise.allSettled(Array.from({ length: 16 }, () => runtime.decode(64, work)))
  return pictures.filter(({ status }) => status === 'fulfilled').length
}

describe('a shortage of memory outside a step', () => {
  it('teaches how many rows a step may have, and the next process begins with that number', async () => {
    let processes = 0
    for (let done = 0; done < 3 && processes < 8;) {
      const process = await startProcess(4)
      processes++
      // As in the worker, a process that has found no memory is replaced, and its jobs run again.
      while (done < 3 && (await wave(process)) === 16) done++
    }
    // Steps of sixteen rows, then eight, then four, which fit.
    expect(processes).toBe(3)
  })

  it.each(['encode', 'decode'] as const)('makes the runtime give memory back and %s once more, then say what did not fit', async (kind) => {
    const process = await startProcess(4)
    const { runtime } = process
    const run = (work: () => Promise<string>) => (kind === 'encode' ? runtime.encode(work) : runtime.decode(64, work))
    await Promise.all(Array.from({ length: 16 }, () => runtime.batcher.forward([row()])))
    let attempts = 0
    const failing = run(() => {
      attempts++
      return process.work()
    })
    await expect(failing).rejects.toBeInstanceOf(OutOfMemoryError)
    expect(attempts).toBe(2)
    expect(runtime.batcher.profile.mostRows('2x2+3')).toBe(8)
    expect(runtime.stats.shortages).toBe(1)
    let failures = 1
    expect(await run(async () => (failures-- > 0 ? Promise.reject(new Error('bad_alloc')) : 'second'))).toBe('second')
    await expect(run(() => Promise.reject(new Error('bad graph')))).rejects.toThrow('bad graph')
  })
})

it('work that is canceled while it waits rejects at once and is not done', async () => {
  const { runtime } = await startProcess(16)
  const abort = new AbortController()
  const { promise: free, resolve: release } = Promise.withResolvers<void>()
  const held = runtime.decode(1, () => free)
  let done = 0
  const waiting = runtime.decode(1, async () => void done++, abort.signal)
  abort.abort(new Error('not wanted'))
  // The device is still held.
  await expect(waiting).rejects.toThrow('not wanted')
  release()
  await held
  await runtime.decode(1, async () => undefined)
  expect(done).toBe(0)
})

it('onUnit is called after every encoding and decoding, except those that failed', async () => {
  let units = 0
  const { graph } = (await startProcess(Infinity)).runtime.batcher
  const runtime = new Runtime(graph, { onUnit: () => units++ })
  await runtime.encode(() => Promise.resolve())
  await runtime.decode(64, () => Promise.resolve())
  expect(units).toBe(2)
  await expect(runtime.encode(() => Promise.reject(new Error('unreadable')))).rejects.toThrow('unreadable')
  await runtime.batcher.forward([row()])
  expect(units).toBe(2)
})
