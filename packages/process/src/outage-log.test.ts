import { EventEmitter } from 'node:events'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { OutageLog } from './outage-log.ts'

class Connection extends EventEmitter {
  status = 'connecting'

  fail(): void {
    this.status = 'reconnecting'
    this.emit('error', new Error('connect ECONNREFUSED'))
  }

  recover(): void {
    this.status = 'ready'
    this.emit('ready')
  }
}

interface Line {
  level: number
  msg: string
}

/** The log of an outage, and the lines it has written. */
function openLog(): { outage: OutageLog; lines: Line[] } {
  const lines: Line[] = []
  const logger = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line) as Line) })
  return { outage: new OutageLog('Redis', logger), lines }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('an outage has one line when the first connection fails and one when the last is back, whatever fails between', () => {
  const { outage, lines } = openLog()
  const [one, two] = [new Connection(), new Connection()]
  for (const connection of [one, two]) outage.watch(connection)
  for (const connection of [one, two]) connection.recover()
  expect(lines).toEqual([])
  for (let time = 0; time < 2; time++) {
    for (const connection of [one, two, one, two]) {
      connection.fail()
      outage.report(new Error('no'), 'housekeeping')
    }
    one.recover()
    expect(lines.splice(0)).toMatchObject([
      { level: 40, reason: 'connect ECONNREFUSED', msg: 'Redis does not answer; waiting until it is back' },
    ])
    two.recover()
    two.recover()
    expect(lines.splice(0)).toMatchObject([{ level: 30, awayMs: expect.any(Number) as number, msg: 'Redis is back' }])
  }
  vi.runAllTimers()
  expect(lines).toEqual([])
  vi.advanceTimersByTime(1000)
  outage.report(new Error('no'), 'housekeeping', { task: 'sweep' })
  vi.runAllTimers()
  expect(lines).toMatchObject([{ level: 40, task: 'sweep', err: { message: 'no' }, msg: 'housekeeping' }])
})

test('what fails just before the outage is noticed, or just after it is over, has no line of its own', () => {
  const { outage, lines } = openLog()
  const connection = new Connection()
  outage.watch(connection)
  connection.recover()
  vi.advanceTimersByTime(5000)
  outage.report(new Error('ECONNRESET'), 'queue')
  connection.fail()
  connection.recover()
  vi.advanceTimersByTime(200)
  outage.report(new Error('Command timed out'), 'queue')
  vi.runAllTimers()
  expect(lines.map(({ msg }) => msg)).toEqual(['Redis does not answer; waiting until it is back', 'Redis is back'])
  vi.advanceTimersByTime(1000)
  outage.report(new Error('of its own'), 'queue')
  vi.runAllTimers()
  expect(lines.map(({ msg }) => msg).slice(2)).toEqual(['queue'])
})
