import { pino } from 'pino'
import { expect, test } from 'vitest'
import { OutageLog } from './outage-log.ts'

test('an outage is one line when the first connection fails and one when the last is back, however often they fail between', () => {
  const lines: { level: number; msg: string }[] = []
  const logger = pino({ level: 'info' }, { write: (line) => lines.push(JSON.parse(line) as { level: number; msg: string }) })
  const outage = new OutageLog('Redis', logger)
  const [one, two] = [{}, {}]
  outage.recover(one)
  expect(lines).toEqual([])
  for (let time = 0; time < 2; time++) {
    for (const connection of [one, two, one, two]) outage.fail(connection, new Error('connect ECONNREFUSED'))
    outage.recover(one)
    expect(lines.splice(0)).toMatchObject([
      { level: 40, reason: 'connect ECONNREFUSED', msg: 'Redis does not answer; waiting until it is back' },
    ])
    outage.recover(two)
    outage.recover(two)
    expect(lines.splice(0)).toMatchObject([{ level: 30, awayMs: expect.any(Number) as number, msg: 'Redis is back' }])
  }
})
