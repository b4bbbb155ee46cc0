import { expect, test } from 'vitest'
import { MemoryWatermark } from './memory-watermark.ts'

test('without a limit nothing is replaced', () => {
  const watermark = new MemoryWatermark()
  expect([watermark.judgeLoaded(1e12), watermark.judgeCall(1e12)]).toEqual(['fine', 'fine'])
})

test('a process is replaced when a call leaves it above the limit, and not at the limit', () => {
  const watermark = new MemoryWatermark(100)
  expect([watermark.judgeLoaded(90), watermark.judgeCall(100), watermark.judgeCall(101)]).toEqual(['fine', 'fine', 'replace'])
})

test('a model that is above the limit by itself raises it by a quarter, which is reported once', () => {
  const watermark = new MemoryWatermark(100)
  expect([watermark.judgeLoaded(200), watermark.judgeCall(250), watermark.judgeCall(251)]).toEqual(['limit_too_low', 'fine', 'replace'])
})

test.each([
  [1, ['limit_too_low', 'fine']],
  [9, ['limit_too_low', 'fine']],
  [10, ['replace', 'replace']],
] as const)(
  'a successor is above the limit at its call %i: within the first nine it needs that much, later it has grown',
  (calls, verdicts) => {
    const watermark = new MemoryWatermark(100)
    expect(watermark.judgeCall(101)).toBe('replace')
    watermark.replaced()
    for (let call = 1; call < calls; call++) expect(watermark.judgeCall(50)).toBe('fine')
    expect([watermark.judgeCall(200), watermark.judgeCall(250)]).toEqual(verdicts)
  },
)
