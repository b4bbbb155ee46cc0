/**
 * Writes a job's progress and previews to its record, at most `maxProgressPerSecond` entries per second.
 *
 * Invariant: the newest of each kind is always written, at the latest at `flush`; older ones are dropped. Only one write is under way at a time,
 * which keeps the order, and a slow Redis delays nothing else. A failed write is logged and ignored, because a job must not fail for it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { maxProgressPerSecond } from '@easel/contract'

export interface ProgressReporter {
  progress(step: number, total: number): void
  /** `toDataUrl` is called only if the preview is really sent. */
  preview(image: number, step: number, toDataUrl: () => Promise<string>): void
  /** Resolves when the newest of each kind has been written. */
  flush(): Promise<void>
  /** Like `flush`, for a job that succeeds: its end reports the progress. */
  finish(): Promise<void>
}

export interface ProgressSink {
  progress(step: number, total: number): Promise<void>
  preview(preview: { step: number; image: number; dataUrl: string }): Promise<void>
}

/** Milliseconds until the next write. All jobs of a worker write at the same moments, because that costs Redis and the api less. */
function untilTick(): number {
  const tick = 1000 / maxProgressPerSecond
  // A timer may fire slightly early and must not find the same tick still ahead.
  return Math.ceil(tick - (performance.now() % tick)) + 2
}

export function createProgressReporter(sink: ProgressSink, onError: (error: unknown) => void): ProgressReporter {
  // The newest of each kind: progress, and one preview per image.
  const waiting = new Map<string, () => Promise<void>>()
  let draining: Promise<void> | undefined
  let hurry = new AbortController()

  const drain = async (): Promise<void> => {
    while (waiting.size > 0) {
      await sleep(untilTick(), undefined, { signal: hurry.signal }).catch(() => {})
      for (const [kind, write] of waiting) {
        waiting.delete(kind)
        await write().catch(onError)
        break
      }
    }
    draining = undefined
  }
  const put = (kind: string, write: () => Promise<void>): void => {
    waiting.set(kind, write)
    draining ??= drain()
  }

  const flush = async (): Promise<void> => {
    if (draining === undefined) return
    hurry.abort()
    await draining
    hurry = new AbortController()
  }

  return {
    progress(step, total) {
      put('progress', () => sink.progress(step, total))
    },
    preview(image, step, toDataUrl) {
      put(`preview ${image}`, async () => sink.preview({ step, image, dataUrl: await toDataUrl() }))
    },
    flush,
    async finish() {
      waiting.delete('progress')
      await flush()
    },
  }
}
