import { describe, expect, it } from 'vitest'
import { DeviceQueue } from './device-queue.ts'
import type { DeviceWork } from './device-queue.ts'

/** Asks for all of it at once; returns the order in which it ran. */
async function orderOf(queue: DeviceQueue, work: readonly [DeviceWork, string][]): Promise<string[]> {
  const ran: string[] = []
  await Promise.all(work.map(([kind, name]) => queue.run(kind, async () => void ran.push(name))))
  return ran
}

describe('the device', () => {
  it('is used by one at a time, with a turn of the event loop before each', async () => {
    const queue = new DeviceQueue()
    let running = 0
    let turns = 0
    const tick = setInterval(() => turns++, 0)
    const seen = await Promise.all(
      Array.from({ length: 6 }, () =>
        queue.run('unit', async () => {
          const concurrent = ++running
          await new Promise((resolve) => setTimeout(resolve, 2))
          running--
          return concurrent
        }),
      ),
    )
    clearInterval(tick)
    expect(seen).toEqual([1, 1, 1, 1, 1, 1])
    expect(turns).toBeGreaterThanOrEqual(6)
  })

  it('goes to steps and units in turn, each in order of arrival', async () => {
    const work: [DeviceWork, string][] = [
      ['unit', 'u1'],
      ['unit', 'u2'],
      ['unit', 'u3'],
      ['step', 's1'],
      ['step', 's2'],
    ]
    expect(await orderOf(new DeviceQueue(), work)).toEqual(['s1', 'u1', 's2', 'u2', 'u3'])
  })

  it('a unit waits for one step at most, however many follow each other', async () => {
    const queue = new DeviceQueue()
    const ran: string[] = []
    let steps = 0
    const step = async (): Promise<void> => {
      ran.push('step')
      if (++steps < 20) void queue.run('step', step)
    }
    void queue.run('step', step)
    const units = ['decode 1', 'decode 2'].map((name) => queue.run('unit', async () => void ran.push(name)))
    await Promise.all(units)
    expect(ran).toEqual(['step', 'decode 1', 'step', 'decode 2'])
  })

  it('is free again after work that throws, and the error is its own', async () => {
    const queue = new DeviceQueue()
    const failing = queue.run('step', async () => {
      throw new Error('no')
    })
    const next = queue.run('step', async () => 'yes')
    await expect(failing).rejects.toThrow('no')
    expect(await next).toBe('yes')
    expect(await queue.run('unit', async () => 'later')).toBe('later')
  })
})
