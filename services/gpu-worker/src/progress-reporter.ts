/**
 * Carries a job's progress and previews to its record, at most `maxProgressPerSecond` entries a second.
 *
 * Invariant: the newest of everything always arrives, late or at `flush`; what it overtook is dropped. One write is under way at a time, so
 * order holds and a slow Redis holds up nothing but this. A write that fails is told and forgotten: progress is not worth a job.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { maxProgressPerSecond } from '@easel/contract'

export interface ProgressReporter {
  progress(step: number, total: number): void
  /** `toDataUrl` is called when the preview is really sent. */
  preview(image: number, step: number, toDataUrl: () => Promise<string>): void
  /** Resolves when the newest of everything has been written. */
  flush(): Promise<void>
  /** As `flush`, for a job that succeeds: its progress is told by its end. */
  finish(): Promise<void>
}

export interface ProgressSink {
  progress(step: number, total: number): Promise<void>
  preview(preview: { step: number; image: number; dataUrl: string }): Promise<void>
}

/** Milliseconds. All jobs of a worker write in the same moment: what Redis and the api then do at once costs them less than bit by bit. */
function untilTick(): number {
  const tick = 1000 / maxProgressPerSecond
  // A timer may fire a little early, and must not find the same tick still ahead.
  return Math.ceil(tick - (performance.now() % tick)) + 2
}

export function createProgressReporter(sink: ProgressSink, onError: (error: unknown) => void): ProgressReporter {
  // The newest of each kind: progress, and one preview an image.
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
