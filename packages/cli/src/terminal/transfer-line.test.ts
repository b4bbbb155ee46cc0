import type { WriteStream } from 'node:tty'
import { expect, test } from 'vitest'
import { TransferLine } from './transfer-line.ts'

function makeLine(isTTY: boolean) {
  let text = ''
  let nowMs = 0
  const out = { isTTY, columns: 80, write: (part: string) => ((text += part), true) } as unknown as WriteStream
  const line = new TransferLine(out, () => nowMs)
  return { line, read: () => text, at: (ms: number) => (nowMs = ms) }
}

test('a pipe gets a plain line at each tenth, with the rate and the time left', () => {
  const { line, read, at } = makeLine(false)
  line.update(0, 1e9)
  at(1000)
  line.update(5e7, 1e9)
  at(2000)
  line.update(1e8, 1e9)
  line.update(1.01e8, 1e9)
  line.end()
  expect(read()).toBe('0 %  0.0 kB of 1.0 GB\n10 %  100 MB of 1.0 GB  50 MB/s, 18 s left\n')
})

test('a terminal gets one line that is redrawn, below whatever is said meanwhile', () => {
  const { line, read, at } = makeLine(true)
  line.update(5e8, 1e9)
  at(50)
  line.update(5.1e8, 1e9)
  line.say('again')
  at(1000)
  line.update(1e9, 1e9)
  line.end()
  expect(read().split('\n')).toHaveLength(3)
  expect(read()).toContain('\r████████████░░░░░░░░░░░░  50 %')
  expect(read()).toContain('\u001B[2K\ragain\n')
  expect(read()).toMatch(/█{24} {2}100 %.*\n$/)
})
