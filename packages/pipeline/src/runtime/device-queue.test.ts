import { describe, expect, it } from 'vitest'
import { countTurns } from '../../test/count-turns.ts'
import { DeviceQueue } from './device-queue.ts'
import type { DeviceWork } from './device-queue.ts'

/** Asks for all turns at once and returns the order in which they are given. */
async function orderOf(queue: DeviceQueue, work: readonly [DeviceWork, string][]): Promise<string[]> {
  const ran: string[] = []
  await Promise.all(work.map(([kind, name]) => queue.run(kind, async () => void ran.push(name))))
  return ran
}

describe('the device', () => {
  it('is used by one at a time', async () => {
    const queue = new DeviceQueue()
    let running = 0
    const seen = await Promise.all(
      Array.from({ length: 6 }, () =>
        queue.run('encode', async () => {
          const concurrent = ++running
          await new Promise((resolve) => setTimeout(resolve, 2))
          running--
          return concurrent
        }),
      ),
    )
    expect(seen).toEqual([1, 1, 1, 1, 1, 1])
  })

  it('does one thing in each turn of the event loop, however short, and nothing in the turn in which it is asked to', async () => {
    const queue = new DeviceQueue()
    const counter = countTurns()
    const kinds: DeviceWork[] = ['step', 'step', 'encode', 'decode', 'step']
    const turns = await Promise.all(kinds.map((kind) => queue.run(kind, async () => counter.now())))
    counter.stop()
    expect(new Set(turns).size).toBe(kinds.length)
    expect(Math.min(...turns)).toBeGreaterThan(0)
  })

  it('goes to steps and units in turn, each in order of arrival', async () => {
    const work: [DeviceWork, string][] = [
      ['encode', 'e1'],
      ['encode', 'e2'],
      ['encode', 'e3'],
      ['step', 's1'],
      ['step', 's2'],
    ]
    expect(await orderOf(new DeviceQueue(), work)).toEqual(['s1', 'e1', 's2', 'e2', 'e3'])
  })

  it('decodes what is finished before it encodes what has just come', async () => {
    const work: [DeviceWork, string][] = [
      ['encode', 'e1'],
      ['encode', 'e2'],
      ['step', 's1'],
      ['step', 's2'],
      ['step', 's3'],
      ['decode', 'd1'],
      ['decode', 'd2'],
    ]
    expect(await orderOf(new DeviceQueue(), work)).toEqual(['s1', 'd1', 's2', 'd2', 's3', 'e1', 'e2'])
  })

  it('runs nothing that was aborted while it waited', async () => {
    const queue = new DeviceQueue()
    const abort = new AbortController()
    const ran: string[] = []
    const first = queue.run('encode', async () => {
      ran.push('first')
      abort.abort(new Error('enough'))
    })
    const second = queue.run('encode', async () => void ran.push('second'), abort.signal)
    const third = queue.run('encode', async () => void ran.push('third'))
    await expect(second).rejects.toThrow('enough')
    await Promise.all([first, third])
    expect(ran).toEqual(['first', 'third'])
  })

  it('lets a unit wait for one step at most, however many steps follow each other', async () => {
    const queue = new DeviceQueue()
    const ran: string[] = []
    let steps = 0
    const step = async (): Promise<void> => {
      ran.push('step')
      if (++steps < 20) void queue.run('step', step)
    }
    void queue.run('step', step)
    const units = ['decode 1', 'decode 2'].map((name) => queue.run('decode', async () => void ran.push(name)))
    await Promise.all(units)
    expect(ran).toEqual(['step', 'decode 1', 'step', 'decode 2'])
  })

  it('is free again after work that throws, and only that work rejects with the error', async () => {
    const queue = new DeviceQueue()
    const failing = queue.run('step', async () => {
      throw new Error('no')
    })
    const next = queue.run('step', async () => 'yes')
    await expect(failing).rejects.toThrow('no')
    expect(await next).toBe('yes')
    expect(await queue.run('encode', async () => 'later')).toBe('later')
  })
})
