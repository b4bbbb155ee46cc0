import { Redis } from 'ioredis'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { openEmbeddedRedis } from './embedded-redis.ts'

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-embedded-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function open(folder: string) {
  const redis = await openEmbeddedRedis(folder)
  onTestFinished(() => redis.stop())
  return redis
}

async function withClient<T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url)
  try {
    return await use(client)
  } finally {
    client.disconnect()
  }
}

test('what was written survives a stop and is found again on the same port', async () => {
  const folder = await makeFolder()
  const first = await open(folder)
  await withClient(first.url, (client) => client.set('job', 'waiting'))
  await first.stop()
  const second = await open(folder)
  expect(second.url).toBe(first.url)
  expect(await withClient(second.url, (client) => client.get('job'))).toBe('waiting')
})

test('a server that answers late is shared all the same', async () => {
  const folder = await makeFolder()
  const first = await open(folder)
  const pid = Number(/process_id:(\d+)/.exec(await withClient(first.url, (client) => client.info('server')))?.[1])
  process.kill(pid, 'SIGSTOP')
  const opening = open(folder)
  await sleep(2000)
  process.kill(pid, 'SIGCONT')
  expect((await opening).url).toBe(first.url)
})

test('several starts at the same moment share one server, and only its owner stops it', async () => {
  const folder = await makeFolder()
  const opened = await Promise.all([open(folder), open(folder), open(folder)])
  expect(new Set(opened.map(({ url }) => url)).size).toBe(1)
  const answers = await Promise.all(opened.map(({ url }) => withClient(url, (client) => client.info('server'))))
  expect(new Set(answers.map((info) => /process_id:(\d+)/.exec(info)?.[1])).size).toBe(1)
})

test('the server moves to another port when the remembered one belongs to somebody else', async () => {
  const folder = await makeFolder()
  const first = await open(folder)
  await withClient(first.url, (client) => client.set('job', 'waiting'))
  await first.stop()
  const stranger = createServer((_, answer) => void answer.end('not Redis')).listen(
    Number(await readFile(join(folder, 'port'), 'utf8')),
    '127.0.0.1',
  )
  await once(stranger, 'listening')
  onTestFinished(() => void stranger.close())
  const second = await open(folder)
  expect(second.url).not.toBe(first.url)
  expect(await withClient(second.url, (client) => client.get('job'))).toBe('waiting')
})
