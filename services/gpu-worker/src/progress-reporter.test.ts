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
  test('writes the first progress at once and the last one always, and drops what was overtaken', async () => {
    const { written, sink } = recorder()
    const reporter = createProgressReporter(sink, () => {})
    for (let step = 1; step <= 500; step++) reporter.progress(step, 500)
    await reporter.flush()
    expect(written.at(-1)).toBe('500/500')
    expect(written.length).toBeLessThanOrEqual(2)
  })

  test('keeps the latest preview of each image and makes only those it sends', async () => {
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

  test('tells of a write that fails and goes on', async () => {
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
