/**
 * Whose turn it is on the device: one native run at a time, for all sessions of this process.
 *
 * Two kinds of work wait here. A step advances many requests at once; a unit (a decoding or an encoding) serves one request. While both
 * wait they alternate, so the steps of all other requests wait for at most one unit. Among units, decodings go first: a finished picture
 * waits for one step and for the pictures that were finished before it, and never for requests that have just arrived. Otherwise work is
 * served in the order it came.
 * Invariant: the event loop turns once before every run, so that messages are received and every request has asked for its next step by then.
 * Work that was aborted before its turn is not run. Knows nothing about what the work is. Runs in the engine process.
 */

/** `encode` is the encoding of a text or a picture. */
export type DeviceWork = 'step' | 'decode' | 'encode'

export class DeviceQueue {
  readonly waiting: Readonly<Record<DeviceWork, (() => Promise<void>)[]>> = { step: [], decode: [], encode: [] }
  lastWasStep = false
  working = false

  /** Runs `work` in its turn and settles as it does. Rejects with the signal's reason instead if the signal has aborted by then. */
  run<T>(kind: DeviceWork, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      this.waiting[kind].push(async () => {
        try {
          signal?.throwIfAborted()
          resolve(await work())
        } catch (error) {
          reject(error)
        }
      })
      if (!this.working) void this.work()
    })
  }

  async work(): Promise<void> {
    this.working = true
    const { step, decode, encode } = this.waiting
    while (step.length + decode.length + encode.length > 0) {
      await eventLoopTurn()
      await this.next()?.()
    }
    this.working = false
  }

  next(): (() => Promise<void>) | undefined {
    const { step, decode, encode } = this.waiting
    const unit = decode.length > 0 ? decode : encode
    this.lastWasStep = unit.length === 0 || (!this.lastWasStep && step.length > 0)
    return (this.lastWasStep ? step : unit).shift()
  }
}

/** ONNX Runtime blocks the thread it runs on, so all models of a process share one queue, whatever device they use. */
export const deviceQueue = new DeviceQueue()

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
