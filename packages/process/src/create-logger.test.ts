import { expect, test } from 'vitest'
import { createLogger } from './create-logger.ts'

async function logTo(isTTY: boolean): Promise<string[]> {
  const written: string[] = []
  const output = { isTTY, write: (text: string) => written.push(text) }
  const logger = await createLogger({ service: 'api', level: 'info', env: { ADMIN_KEY: 'key-of-the-operator' }, output })
  logger.info({ jobId: 'a', note: 'key-of-the-operator' }, 'job ended')
  logger.debug('unheard')
  return written
}

test('a log for programs has one JSON object on each line, without the secrets of the environment', async () => {
  const lines = await logTo(false)
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ level: 30, service: 'api', jobId: 'a', note: '[secret]', msg: 'job ended' })
})

test('a log on a terminal has lines for people, without the secrets of the environment', async () => {
  const [line = '', ...others] = await logTo(true)
  // oxlint-disable-next-line no-control-regex
  expect(line.replaceAll(/\u001b\[\d+m/g, '')).toMatch(/^\[\d\d:\d\d:\d\d\] INFO: api: job ended \{"jobId":"a","note":"\[secret\]"\}\n$/)
  expect(others).toEqual([])
})
