/**
 * Carries a job's progress and previews to its record, at most `maxProgressPerSecond` entries a second.
 *
 * Invariant: the newest progress always arrives, late or at `flush`; what it overtook is dropped. One write is under way at a time, so
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
}

export interface ProgressSink {
  progress(step: number, total: number): Promise<void>
  preview(preview: { step: number; image: number; dataUrl: string }): Promise<void>
}

export function createProgressReporter(sink: ProgressSink, onError: (error: unknown) => void): ProgressReporter {
  // The newest of each kind: progress, and one preview an image.
  const waiting = new Map<string, () => Promise<void>>()
  let draining: Promise<void> | undefined
  let hurry = new AbortController()

  const drain = async (): Promise<void> => {
    for (;;) {
      const next = waiting.entries().next().value
      if (next === undefined) break
      waiting.delete(next[0])
      await next[1]().catch(onError)
      await sleep(1000 / maxProgressPerSecond, undefined, { signal: hurry.signal }).catch(() => {})
    }
    draining = undefined
  }
  const put = (kind: string, write: () => Promise<void>): void => {
    waiting.set(kind, write)
    draining ??= drain()
  }

  return {
    progress(step, total) {
      put('progress', () => sink.progress(step, total))
    },
    preview(image, step, toDataUrl) {
      put(`preview ${image}`, async () => sink.preview({ step, image, dataUrl: await toDataUrl() }))
    },
    async flush() {
      if (draining === undefined) return
      hurry.abort()
      await draining
      hurry = new AbortController()
    },
  }
}
