import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { createProgressReporter } from './progress-reporter.ts'

function recorder() {
  const written: string[] = []
  return {
    written,
    sink: {
      progress: async (step: number, total: number) => void written.push(`${step}/${total}`),
      preview: async ({ step, image, dataUrl }: { step: number; image: number; dataUrl: string }) =>
        void written.push(`${image}@${step} ${dataUrl}`),
    },
  }
}

describe('a progress reporter', () => {
  test('always writes the last progress, and drops what was overtaken', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    for (let step = 1; step <= 500; step++) reporter.progress(step, 500)
    await reporter.flush()
    expect(written).toEqual(['500/500'])
  })

  test('writes without being told to, at most ten times a second', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    const startedAt = performance.now()
    for (let step = 1; performance.now() - startedAt < 450 || written.length < 2; step++) {
      reporter.progress(step, 500)
      await sleep(2)
    }
    // Each write comes after another of the moments that all jobs of a worker share.
    const momentsBefore = (at: number): number => Math.floor(at / 100)
    expect(written.length).toBeLessThanOrEqual(momentsBefore(performance.now()) - momentsBefore(startedAt))
    await reporter.flush()
  })

  test('writes no more often when there are several things to write, even after a flush', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    for (let round = 1; round <= 2; round++) {
      const startedAt = performance.now()
      for (let image = 0; image < 5; image++) reporter.preview(image, 5, async () => 'url')
      await expect.poll(() => written.length, { timeout: 60_000, interval: 5 }).toBe(5 * round)
      // Five writes, a tenth of a second apart.
      expect(performance.now() - startedAt).toBeGreaterThanOrEqual(400)
      reporter.progress(1, 4)
      await reporter.flush()
      written.splice(5 * round)
    }
  })

  test('keeps the latest preview of each image and makes only those that it sends', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    let made = 0
    for (const step of [5, 10, 15])
      for (const image of [0, 1])
        reporter.preview(image, step, async () => {
          made++
          return 'url'
        })
    await reporter.flush()
    expect(written.slice(-2).sort()).toEqual(['0@15 url', '1@15 url'])
    expect(made).toBe(written.length)
  })

  test('leaves the progress of a job that succeeds to its end, but still writes the last preview', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    reporter.progress(3, 4)
    reporter.preview(0, 3, async () => 'url')
    await reporter.finish()
    expect(written).toEqual(['0@3 url'])
    reporter.progress(4, 4)
    await reporter.finish()
    expect(written).toEqual(['0@3 url'])
  })

  test('reports a write that fails, and continues', async () => {
    const errors: unknown[] = []
    const { written, sink } = recorder()
    const reporter = createProgressReporter(
      { ...sink, progress: async (step, total) => (step === 1 ? Promise.reject(new Error('away')) : sink.progress(step, total)) },
      (error) => errors.push(error),
    )
    reporter.progress(1, 2)
    await reporter.flush()
    reporter.progress(2, 2)
    await reporter.flush()
    expect(errors).toEqual([new Error('away')])
    expect(written).toEqual(['2/2'])
  })
})
