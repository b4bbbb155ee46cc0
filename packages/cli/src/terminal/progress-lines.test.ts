import type { WriteStream } from 'node:tty'
import { expect, test } from 'vitest'
import { createProgressLines } from './progress-lines.ts'

function createOutput(shape: { isTTY: boolean; columns: number }) {
  const written: string[] = []
  return { written, stream: { ...shape, write: (text: string) => written.push(text) } as unknown as WriteStream }
}

const running = (step: number) => ({ status: 'running', progress: { step, total: 20 } })

test('a pipe gets a line when the state changes and at each quarter of the steps', () => {
  const { written, stream } = createOutput({ isTTY: false, columns: 80 })
  const lines = createProgressLines(['a boat'], stream)
  for (let step = 0; step <= 20; step++) lines.update(0, running(step))
  lines.update(0, { status: 'succeeded', progress: { step: 20, total: 20 } })
  expect(written.map((line) => line.trim().split('  ').at(-1))).toEqual([
    '0/20 running',
    '5/20 running',
    '10/20 running',
    '15/20 running',
    '20/20 running',
    '20/20 succeeded',
  ])
})

test('a terminal shows one line for each job, redrawn in place and never wider than the terminal', () => {
  const { written, stream } = createOutput({ isTTY: true, columns: 20 })
  const lines = createProgressLines(['a boat', 'a very long prompt that does not fit'], stream)
  lines.update(0, running(1))
  lines.update(1, running(20))
  expect(written).toHaveLength(2)
  expect(written[0]?.startsWith('\u001B[2A')).toBe(false)
  expect(written[1]?.startsWith('\u001B[2A')).toBe(true)
  const shown = written[1]?.replaceAll('\u001B[2A', '').replaceAll('\u001B[2K', '').trimEnd().split('\n')
  expect(shown).toHaveLength(2)
  for (const line of shown ?? []) expect(line.length).toBeLessThan(20)
})
