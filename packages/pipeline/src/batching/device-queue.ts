/**
 * Whose turn it is on the device: one native run at a time, for all sessions of this process.
 *
 * Two kinds of work wait here. A step moves many requests on at once; a unit (text encoding, VAE) serves one request. They take turns: with
 * both waiting, a step follows a unit and a unit follows a step. So a finished picture is decoded after at most one step, and the steps of
 * all others wait for at most one unit. Within a kind, first come first served.
 * Invariant: before every run the event loop turns once, so messages get in and every request has asked for its next step by then.
 * Knows nothing about what the work is. Runs in the engine process.
 */

export type DeviceWork = 'step' | 'unit'

export class DeviceQueue {
  readonly steps: (() => Promise<void>)[] = []
  readonly units: (() => Promise<void>)[] = []
  last: DeviceWork = 'unit'
  working = false

  /** Runs `work` when its turn comes; settles as it does. */
  run<T>(kind: DeviceWork, work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const turn = async () => {
        try {
          resolve(await work())
        } catch (error) {
          reject(error)
        }
      }
      if (kind === 'step') this.steps.push(turn)
      else this.units.push(turn)
      if (!this.working) void this.work()
    })
  }

  async work(): Promise<void> {
    this.working = true
    while (this.steps.length + this.units.length > 0) {
      await eventLoopTurn()
      await this.next()?.()
    }
    this.working = false
  }

  next(): (() => Promise<void>) | undefined {
    const stepIsNext = this.units.length === 0 || (this.last === 'unit' && this.steps.length > 0)
    this.last = stepIsNext ? 'step' : 'unit'
    return stepIsNext ? this.steps.shift() : this.units.shift()
  }
}

/** The runtime blocks the thread it runs on, so all models of a process share one queue, whatever device they are on. */
export const deviceQueue = new DeviceQueue()

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
