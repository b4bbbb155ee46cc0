import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { CallTurns } from './call-turns.ts'

/** Takes a turn and writes to `log` when it begins. */
async function take(turns: CallTurns, log: string[], name: string, exclusive: boolean, signal?: AbortSignal): Promise<() => void> {
  const end = await turns.take(exclusive, signal)
  log.push(name)
  return end
}

describe('turns', () => {
  test('let ordinary calls run together', async () => {
    const turns = new CallTurns()
    const log: string[] = []
    await Promise.all(['a', 'b', 'c'].map((name) => take(turns, log, name, false)))
    expect(log).toEqual(['a', 'b', 'c'])
  })

  test('make an exclusive call wait until the engine is empty, and make others wait for it', async () => {
    const turns = new CallTurns()
    const log: string[] = []
    const endA = await take(turns, log, 'a', false)
    const suspect = take(turns, log, 'suspect', true)
    const late = take(turns, log, 'late', false)
    await nextTurn()
    expect(log).toEqual(['a'])
    endA()
    const endSuspect = await suspect
    expect(log).toEqual(['a', 'suspect'])
    endSuspect()
    await late
    expect(log).toEqual(['a', 'suspect', 'late'])
  })

  test('let exclusive calls run one at a time, before ordinary calls that came earlier', async () => {
    const turns = new CallTurns()
    const log: string[] = []
    const endFirst = await take(turns, log, 'first', true)
    const waiting = [take(turns, log, 'ordinary', false), take(turns, log, 'second', true), take(turns, log, 'third', true)]
    endFirst()
    ;(await waiting[1])?.()
    ;(await waiting[2])?.()
    await waiting[0]
    expect(log).toEqual(['first', 'second', 'third', 'ordinary'])
  })

  test('let a call leave the line, and those behind it move up', async () => {
    const turns = new CallTurns()
    const log: string[] = []
    await take(turns, log, 'running', false)
    const leaving = new AbortController()
    const suspect = take(turns, log, 'suspect', true, leaving.signal)
    const behind = take(turns, log, 'behind', false)
    leaving.abort(new Error('enough'))
    await expect(suspect).rejects.toThrow('enough')
    await behind
    expect(log).toEqual(['running', 'behind'])
  })

  test('count the end of a turn once, however often it is reported', async () => {
    const turns = new CallTurns()
    const log: string[] = []
    const endA = await take(turns, log, 'a', false)
    const endB = await take(turns, log, 'b', false)
    const suspect = take(turns, log, 'suspect', true)
    endA()
    endA()
    await nextTurn()
    expect(log).toEqual(['a', 'b'])
    endB()
    await suspect
  })
})
