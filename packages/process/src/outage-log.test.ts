import { EventEmitter } from 'node:events'
import { pino } from 'pino'
import { expect, test } from 'vitest'
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

test('an outage is one line when the first connection fails and one when the last is back, whatever fails between', () => {
  const lines: { level: number; msg: string }[] = []
  const logger = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line) as { level: number; msg: string }) })
  const outage = new OutageLog('Redis', logger)
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
  outage.report(new Error('no'), 'housekeeping', { task: 'sweep' })
  expect(lines).toMatchObject([{ level: 40, task: 'sweep', err: { message: 'no' }, msg: 'housekeeping' }])
})
