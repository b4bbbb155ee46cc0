/** The batcher on a graph of one line, so that what it does can be seen. test/exactness.test.ts runs it on a real graph. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeEach, describe, expect, it } from 'vitest'
import type { PackedRows } from '../tensor/packed-rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { OutOfMemoryError } from './out-of-memory.ts'
import { StepBatcher } from './step-batcher.ts'
import type { StepBatcherOptions } from './step-batcher.ts'
import type { StepGraph } from './step-graph.ts'
import type { StepContext, StepRow } from './step-call.ts'

/** Gives latent + timestep + first value of the embeddings. */
class Adding implements StepGraph {
  readonly dtype = 'float32'
  takesOneTimestep = false
  fixedRows: number | undefined
  layers: number | undefined
  runs: number[] = []
  /** Throws when a run has more rows. */
  memoryRows = Infinity
  failure: Error | undefined
  /** Called with what is run. */
  onRun: ((packed: PackedRows) => void) | undefined

  async run(packed: PackedRows): Promise<void> {
    const { rows, hiddenStates, timestep, encoderHiddenStates, output } = packed
    if (this.failure !== undefined) throw this.failure
    if (rows > this.memoryRows) throw new Error('run', { cause: new Error('Failed to allocate memory for requested buffer of size 12') })
    this.runs.push(rows)
    this.onRun?.(packed)
    const [length, width] = [hiddenStates.length / rows, encoderHiddenStates.length / rows]
    for (const index of output.keys()) {
      const row = Math.floor(index / length)
      output[index] = (hiddenStates[index] as number) + (timestep[row] as number) + (encoderHiddenStates[row * width] as number)
    }
  }
}

function input(rows: number, value: number, side = 2): StepRow[] {
  return Array.from({ length: rows }, (_, row) => ({
    hiddenStates: new Tensor(new Float32Array(side * side).fill(value), [1, 1, side, side]),
    timestep: 100,
    encoderHiddenStates: new Tensor(new Float32Array(6).fill(1000 * (1 + row)), [1, 3, 2]),
    pooledProjections: new Tensor(new Float32Array(2), [1, 2]),
  }))
}
const promptOf = ([row]: StepRow[]) => {
  const { encoderHiddenStates, pooledProjections } = row as StepRow
  return { encoderHiddenStates, pooledProjections }
}
const context = (rest: Partial<StepContext> = {}): StepContext => ({ arrivedAtMs: 0, remainingRows: 1, ...rest })

let runner: Adding
beforeEach(() => {
  runner = new Adding()
})
/** All rows that wait share a run, unless the limit is lower. */
function createBatcher(options: StepBatcherOptions = {}): StepBatcher {
  const batcher = new StepBatcher(runner, options)
  batcher.profile.rowsFor = (size, waiting) => Math.min(waiting, batcher.profile.mostRows(size))
  return batcher
}

describe('calls that wait together', () => {
  it('share one run, and each gets its own rows', async () => {
    const batcher = createBatcher()
    const [a, b] = await Promise.all([batcher.forward(input(2, 1), context()), batcher.forward(input(1, 5), context())])
    expect(runner.runs).toEqual([3])
    expect([...a.data]).toEqual([1101, 1101, 1101, 1101, 2101, 2101, 2101, 2101])
    expect([...b.data]).toEqual([1105, 1105, 1105, 1105])
    expect(a.dims).toEqual([2, 1, 2, 2])
  })

  it('have their predictions read where the graph wrote them, all rows of a call at once, or get them in memory of their own', async () => {
    const batcher = createBatcher({ maxBatchRows: 3 })
    const firstValues = (rows: readonly Tensor[]): number[] => rows.map(({ data }) => data[0] as number)
    const seen: Tensor[] = []
    const [a, b, c] = await Promise.all([
      batcher.forward(input(2, 1), context(), (rows) => (seen.push(...rows), firstValues(rows))),
      batcher.forward(input(2, 7), context(), firstValues),
      batcher.forward(input(1, 9), context()),
    ])
    expect(runner.runs).toEqual([3, 2])
    expect([a, b, [...c.data]]).toEqual([
      [1101, 2101],
      [1107, 2107],
      [1109, 1109, 1109, 1109],
    ])
    const { output } = [...batcher.buffers.values()][0]!
    expect(seen.map(({ dims, data }) => [dims, data.buffer === output.buffer])).toEqual([
      [[1, 1, 2, 2], true],
      [[1, 1, 2, 2], true],
    ])
    expect(c.data.buffer).not.toBe(output.buffer)
  })

  it('have their predictions read beside the latents they were made from, even if their rows were cut', async () => {
    const batcher = createBatcher({ maxBatchRows: 3 })
    const rows = (from: number) => [...input(1, from), ...input(1, from + 1)]
    const inPlace: boolean[] = []
    const latentsOf = (_: unknown, latents: readonly Tensor[]): number[] => {
      inPlace.push(...latents.map(({ data }) => data.buffer === [...batcher.buffers.values()][0]?.latents.buffer))
      return latents.map(({ data }) => data[0] as number)
    }
    const read = await Promise.all([1, 5].map((from) => batcher.forward(rows(from), context(), latentsOf)))
    expect(runner.runs).toEqual([3, 1])
    expect(read).toEqual([
      [1, 2],
      [5, 6],
    ])
    expect(inPlace).toEqual([true, true, false, true])
    runner.takesOneTimestep = true
    expect(await batcher.forward([...input(1, 3), { ...input(1, 4)[0]!, timestep: 5 }], context(), latentsOf)).toEqual([3, 4])
  })

  it('fail only if their own reader throws', async () => {
    const batcher = createBatcher()
    const calls = [
      batcher.forward(input(1, 1), context(), () => {
        throw new Error('scheduler')
      }),
      batcher.forward(input(1, 5), context(), ([row]) => row?.data[0]),
    ]
    expect(await Promise.allSettled(calls)).toMatchObject([
      { status: 'rejected', reason: { message: 'scheduler' } },
      { status: 'fulfilled', value: 1105 },
    ])
    expect(runner.runs).toEqual([2])
  })

  it('run apart when their latents have different sizes', async () => {
    const batcher = createBatcher()
    await Promise.all([batcher.forward(input(2, 1)), batcher.forward(input(1, 1, 4)), batcher.forward(input(2, 1))])
    expect(runner.runs).toEqual([4, 1])
  })

  it('run apart when height and width are swapped', async () => {
    const batcher = createBatcher()
    const of = (height: number, width: number): StepRow[] =>
      input(1, 1).map((row) => ({ ...row, hiddenStates: new Tensor(new Float32Array(8).fill(1), [1, 1, height, width]) }))
    const [tall, wide] = await Promise.all([batcher.forward(of(4, 2)), batcher.forward(of(2, 4))])
    expect(runner.runs).toEqual([1, 1])
    expect(batcher.buffers.size).toBe(2)
    expect([tall.dims, wide.dims]).toEqual([
      [1, 1, 4, 2],
      [1, 1, 2, 4],
    ])
  })

  it('run apart when their texts have different lengths', async () => {
    const batcher = createBatcher()
    const longer = input(1, 1).map((row) => ({ ...row, encoderHiddenStates: new Tensor(new Float32Array(8), [1, 4, 2]) }))
    await Promise.all([batcher.forward(input(1, 1)), batcher.forward(longer)])
    expect(runner.runs).toEqual([1, 1])
  })

  it('are cut at the limit, and a cut call waits for the rest of its rows', async () => {
    const batcher = createBatcher({ maxBatchRows: 3 })
    const [a, b] = await Promise.all([batcher.forward(input(2, 1)), batcher.forward(input(2, 7))])
    expect(runner.runs).toEqual([3, 1])
    expect([a.data[4], b.data[0], b.data[4]]).toEqual([2101, 1107, 2107])
  })

  it('run only with rows of their own timestep where the graph takes one timestep for all', async () => {
    runner.takesOneTimestep = true
    const batcher = createBatcher()
    const mixed = input(2, 1).map((row, index) => ({ ...row, timestep: 100 * (1 + index) }))
    const [a, b] = await Promise.all([batcher.forward(mixed), batcher.forward(input(1, 3))])
    expect(runner.runs.toSorted((a, b) => a - b)).toEqual([1, 2])
    expect([a.data[0], a.data[4], b.data[0]]).toEqual([1101, 2201, 1103])
  })
})

describe('prompt rows', () => {
  it('are copied when a request joins, and again only where another row takes their place', async () => {
    const batcher = createBatcher()
    const copied = () => [...batcher.buffers.values()].reduce((sum, { copiedPrompts }) => sum + copiedPrompts, 0)
    const [a, b] = [input(2, 1), input(2, 2)]
    const step = (...calls: StepRow[][]) => Promise.all(calls.map((call) => batcher.forward(call, context())))
    await step(a, b)
    expect(copied()).toBe(4)
    await step(a, b)
    // Results come in the order of the calls, whatever places their rows keep.
    const swapped = await step(b, a)
    expect(swapped.map(({ data }) => [data[0], data[4]])).toEqual([
      [1102, 2102],
      [1101, 2101],
    ])
    expect(copied()).toBe(4)
    const [alone] = await step(b)
    expect(copied()).toBe(6)
    expect([...(alone as Tensor).data]).toEqual([1102, 1102, 1102, 1102, 2102, 2102, 2102, 2102])
  })

  it('of two requests with the same prompt are copied once, whoever of them goes on', async () => {
    const batcher = createBatcher()
    const a = input(1, 1)
    const b = input(1, 2).map((row) => ({ ...row, ...promptOf(a) }))
    await batcher.forward(a, context())
    expect((await batcher.forward(b, context())).data[0]).toBe(1102)
    expect([...batcher.buffers.values()][0]?.copiedPrompts).toBe(1)
  })

  it('of the same tokens with another pooled vector are copied', async () => {
    const batcher = createBatcher()
    const pooled: number[] = []
    runner.onRun = ({ pooledProjections }) => pooled.push(pooledProjections[0] as number)
    const a = input(1, 1)
    const b = a.map((row) => ({ ...row, pooledProjections: new Tensor(new Float32Array([7, 7]), [1, 2]) }))
    await batcher.forward(a, context())
    await batcher.forward(b, context())
    expect(pooled).toEqual([0, 7])
  })

  it('that lie in one piece of memory are told apart by their place in it', async () => {
    const batcher = createBatcher()
    const memory = Float32Array.from({ length: 12 }, (_, index) => (index < 6 ? 1000 : 3000))
    const [row] = input(1, 1) as [StepRow]
    const of = (start: number): StepRow[] => [{ ...row, encoderHiddenStates: new Tensor(memory.subarray(start, start + 6), [1, 3, 2]) }]
    expect((await batcher.forward(of(0), context())).data[0]).toBe(1101)
    expect((await batcher.forward(of(6), context())).data[0]).toBe(3101)
  })

  it('of a finished request are not kept in memory', async () => {
    setFlagsFromString('--expose-gc')
    const collectGarbage = runInNewContext('gc') as () => void
    const batcher = createBatcher()
    const finish = async (): Promise<WeakRef<ArrayBufferLike>[]> => {
      const rows = input(2, 1)
      await batcher.forward(rows, context())
      return rows.flatMap((row) =>
        [row.hiddenStates, row.encoderHiddenStates, row.pooledProjections].map(({ data }) => new WeakRef(data.buffer)),
      )
    }
    const kept = await finish()
    // One collection may leave what is only freed in a later turn of the event loop; what is kept stays however often one looks.
    const left = (): number => {
      collectGarbage()
      return kept.filter((memory) => memory.deref() !== undefined).length
    }
    await expect.poll(left).toBe(0)
  })

  it('of a caller that says nothing about its request are copied every time, because it may write to them', async () => {
    const batcher = createBatcher()
    const call = input(1, 1)
    await batcher.forward(call)
    for (const { encoderHiddenStates } of call) encoderHiddenStates.data[0] = 5
    expect((await batcher.forward(call)).data[0]).toBe(106)
  })
})

describe('a layer mask', () => {
  it('goes with its row, whatever place it has, and rows without one leave no layer out', async () => {
    runner.layers = 3
    const batcher = createBatcher()
    const masks: number[][] = []
    runner.onRun = ({ layerMask }) => masks.push([...(layerMask as Float32Array)])
    const plain = input(1, 1)
    const masked = input(1, 2).map((row) => ({ ...row, layerMask: Float32Array.of(1, 0, 1) }))
    await Promise.all([batcher.forward(plain, context()), batcher.forward(masked, context())])
    // The same places with the masks swapped: nothing of the step before is left.
    const swapped = [
      plain.map((row) => ({ ...row, layerMask: Float32Array.of(0, 1, 1) })),
      masked.map((row) => ({ ...row, layerMask: undefined })),
    ]
    await Promise.all(swapped.map((call) => batcher.forward(call, context())))
    expect(masks).toEqual([
      [1, 1, 1, 1, 0, 1],
      [0, 1, 1, 1, 1, 1],
    ])
  })

  it('is refused where the graph takes none or one of another length', async () => {
    const masked = input(1, 2).map((row) => ({ ...row, layerMask: Float32Array.of(1, 0) }))
    await expect(createBatcher().forward(masked)).rejects.toThrow('Expected layerMask of no layers, as the graph has it, got one of 2')
    runner.layers = 3
    await expect(createBatcher().forward(masked)).rejects.toThrow('Expected layerMask of 3 layers')
  })
})

describe('a canceled call', () => {
  it('is dropped before the next run and rejects with the reason, and the others go on', async () => {
    const batcher = createBatcher()
    const abort = new AbortController()
    const canceled = batcher.forward(input(4, 1), context({ signal: abort.signal }))
    const other = batcher.forward(input(1, 2), context())
    abort.abort(new Error('not wanted'))
    await expect(canceled).rejects.toThrow('not wanted')
    expect((await other).data[0]).toBe(1102)
    expect(runner.runs).toEqual([1])
  })
})

describe('out of memory', () => {
  it('makes batches smaller until they fit, with the same results, and they stay small for a while', async () => {
    runner.memoryRows = 2
    const batcher = createBatcher()
    let gaveBack = 0
    batcher.onOutOfMemory = () => gaveBack++
    const results = await Promise.all([1, 2, 3, 4].map((value) => batcher.forward(input(2, value))))
    expect(results.map(({ data }) => [data[0], data[4]])).toEqual([1, 2, 3, 4].map((value) => [1100 + value, 2100 + value]))
    expect(runner.runs).toEqual([2, 2, 2, 2])
    expect(gaveBack).toBe(2)
    await batcher.forward(input(3, 1))
    expect(gaveBack).toBe(2)
    // This holds for this size only, and not forever.
    runner.memoryRows = Infinity
    runner.runs = []
    await batcher.forward(input(6, 1, 4))
    expect(runner.runs).toEqual([6])
    for (let step = 0; step < 800; step++) await batcher.forward(input(1, 1))
    runner.runs = []
    await batcher.forward(input(6, 1))
    expect(runner.runs).toEqual([6])
  })

  it('in a single row is over once memory has been given back', async () => {
    runner.memoryRows = 0
    const batcher = createBatcher()
    batcher.onOutOfMemory = () => (runner.memoryRows = Infinity)
    expect((await batcher.forward(input(1, 1))).data[0]).toBe(1101)
  })

  it('in a single row leads to one more try, even if its call ran out with many rows before', async () => {
    runner.memoryRows = 1
    const batcher = createBatcher()
    const limits = [0, Infinity]
    batcher.onOutOfMemory = () => (runner.memoryRows = limits.shift() as number)
    expect((await batcher.forward(input(2, 1))).data[0]).toBe(1101)
    expect(limits).toEqual([])
  })

  it('frees the buffers of all sizes before anything else is asked to free memory', async () => {
    const batcher = createBatcher()
    await batcher.forward(input(2, 1))
    await batcher.forward(input(1, 1, 4))
    expect(batcher.buffers.size).toBe(2)
    const left: number[] = []
    batcher.onOutOfMemory = () => left.push(batcher.buffers.size)
    runner.memoryRows = 1
    await batcher.forward(input(2, 1))
    expect(left).toEqual([0])
  })

  it('in a single row twice is an error with the code out_of_memory for its call alone', async () => {
    runner.memoryRows = 0
    const batcher = createBatcher()
    const failing = batcher.forward(input(1, 1))
    await expect(failing).rejects.toBeInstanceOf(OutOfMemoryError)
    await expect(failing).rejects.toMatchObject({ code: 'out_of_memory', message: expect.stringContaining('a step of one row') })
    runner.memoryRows = Infinity
    expect((await batcher.forward(input(1, 1))).data[0]).toBe(1101)
  })
})

it('another failure of a run ends the calls in it, and later calls run', async () => {
  const batcher = createBatcher()
  runner.failure = new Error('bad graph')
  const calls = [batcher.forward(input(1, 1)), batcher.forward(input(1, 1))]
  expect((await Promise.allSettled(calls)).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  runner.failure = undefined
  expect((await batcher.forward(input(1, 1))).data[0]).toBe(1101)
})

it('first come, first served goes on with the request that came first, at each of its steps', async () => {
  const batcher = createBatcher({ policy: 'fcfs', maxBatchRows: 1 })
  const order: number[] = []
  const request = async (arrivedAtMs: number) => {
    for (let step = 0; step < 3; step++) {
      await batcher.forward(input(1, 1), context({ arrivedAtMs }))
      order.push(arrivedAtMs)
    }
  }
  await Promise.all([request(1), request(2), request(3)])
  expect(order).toEqual([1, 1, 1, 2, 2, 2, 3, 3, 3])
})

it('shortest remaining work first judges waiting calls by what is known now, not by what was estimated when they came', async () => {
  const batcher = createBatcher({ maxBatchRows: 1 })
  batcher.profile.rowMs = () => 1_000_000
  const early = batcher.forward(input(1, 1), context({ arrivedAtMs: -100, remainingRows: 2 }))
  batcher.profile.rowMs = () => 0.001
  const order: string[] = []
  const late = batcher.forward(input(1, 1), context({ arrivedAtMs: performance.now(), remainingRows: 1 }))
  await Promise.all([early.then(() => order.push('early')), late.then(() => order.push('late'))])
  expect(order).toEqual(['early', 'late'])
})

it('shortest remaining work first counts the steps to come, not only the rows that wait', async () => {
  const batcher = createBatcher({ policy: 'srpt', maxBatchRows: 1 })
  const arrivedAtMs = performance.now()
  const order: string[] = []
  const calls = { long: 5000, short: 1 }
  const run = async ([name, remainingRows]: [string, number]) => {
    await batcher.forward(input(1, 1), context({ arrivedAtMs, remainingRows }))
    order.push(name)
  }
  await Promise.all(Object.entries(calls).map(run))
  expect(order).toEqual(['short', 'long'])
})

it('the owner that has had less goes first, and a new owner starts level with the one served last', async () => {
  const batcher = createBatcher({ maxBatchRows: 1 })
  batcher.served.add('rich', 1, 60_000)
  const order: string[] = []
  const run = async (name: string) => {
    await batcher.forward(input(1, 1), context({ owner: { name, weight: 1 } }))
    order.push(name)
  }
  await Promise.all(['rich', 'poor'].map(run))
  expect(order).toEqual(['poor', 'rich'])
  expect(batcher.served.of('away')).toBe(60_000)
})

it('a step reports the longest wait of its calls', async () => {
  const batcher = createBatcher()
  const waits: number[] = []
  batcher.onStep = ({ waitMs }) => waits.push(waitMs)
  const [begun, running] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  batcher.aroundRun = async (_, run) => {
    begun.resolve()
    await running.promise
    await run()
  }
  const first = batcher.forward(input(1, 1))
  await begun.promise
  const early = batcher.forward(input(1, 1))
  const cameAtMs = performance.now()
  await sleep(50)
  const leastWaitMs = performance.now() - cameAtMs
  const late = batcher.forward(input(1, 1))
  running.resolve()
  await Promise.all([first, early, late])
  expect(waits).toHaveLength(2)
  expect(waits[1]).toBeGreaterThanOrEqual(leastWaitMs)
})

it('only the buffers of the eight sizes used last are kept', async () => {
  const batcher = createBatcher()
  for (const side of [1, 2, 3, 4, 5, 6, 7, 8, 1, 9]) await batcher.forward(input(1, 1, side))
  expect([...batcher.buffers.rkeys()].map((size) => Number(size.split('x')[0]))).toEqual([3, 4, 5, 6, 7, 8, 1, 9])
})

it('a listener that throws does not stop the work', async () => {
  const batcher = createBatcher()
  const warning = once(process, 'warning')
  batcher.onStep = () => {
    throw new Error('listener')
  }
  expect((await batcher.forward(input(1, 1))).data[0]).toBe(1101)
  expect(await warning).toMatchObject([{ message: 'listener' }])
})

it('a graph for one row at a time runs one row at a time, and one for another fixed number is refused', async () => {
  runner.fixedRows = 1
  await createBatcher().forward(input(3, 1))
  expect(runner.runs).toEqual([1, 1, 1])
  runner.fixedRows = 4
  expect(createBatcher).toThrow('Expected a transformer whose batch axis is free or 1, got 4')
})

it('rows that do not belong together are refused with what differs', async () => {
  const batcher = createBatcher()
  const [row] = input(1, 1) as [StepRow]
  const both = { ...row, hiddenStates: new Tensor(new Float32Array(8), [2, 1, 2, 2]) }
  await expect(batcher.forward([])).rejects.toThrow('Expected at least one row, got none')
  await expect(batcher.forward([both])).rejects.toThrow('Expected hiddenStates of one row, got dims [2, 1, 2, 2]')
  await expect(batcher.forward([row, ...input(1, 1, 4)])).rejects.toThrow(
    'Expected hiddenStates of dims [1, 1, 2, 2], as in the first row, got [1, 1, 4, 4]',
  )
})
