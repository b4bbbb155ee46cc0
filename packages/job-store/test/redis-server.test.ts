import { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type RedisOptions, type RedisServer, startRedis } from './redis-server.ts'

async function start(options?: RedisOptions): Promise<RedisServer> {
  const server = await startRedis(options)
  onTestFinished(() => server.stop())
  return server
}

function connect(server: RedisServer): Redis {
  const client = new Redis(server.url, { retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

test('an append-only server that is killed and restarted has kept what was written', async () => {
  const server = await start({ appendonly: true })
  const client = connect(server)
  await client.set('colour', 'red')
  await server.kill()
  await server.restart()
  expect(await client.get('colour')).toBe('red')
})

test('a server without an append-only file forgets everything on a restart', async () => {
  const server = await start()
  const client = connect(server)
  await client.set('colour', 'red')
  await server.restart()
  expect(await client.get('colour')).toBeNull()
})

test('a paused server answers nothing until it is resumed', async () => {
  const server = await start()
  const client = connect(server)
  await client.ping()
  server.pause()
  const answer = client.ping()
  const first = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 200, 'silence'))])
  expect(first).toBe('silence')
  server.resume()
  expect(await answer).toBe('PONG')
})

test('a paused server can be stopped, and stopping twice is harmless', async () => {
  const server = await start()
  server.pause()
  await server.stop()
  await server.stop()
  const client = new Redis(server.url, { retryStrategy: null, lazyConnect: true })
  client.on('error', () => {})
  await expect(client.connect()).rejects.toThrow('Connection is closed')
})

test('a folder given by the caller survives stop', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'easel-redis-test-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const server = await start({ appendonly: true, dir })
  await connect(server).set('colour', 'red')
  await server.stop()
  expect(existsSync(join(dir, 'appendonlydir'))).toBe(true)
  const again = await start({ appendonly: true, dir })
  expect(await connect(again).get('colour')).toBe('red')
})

test('servers started at the same time get different ports', async () => {
  const servers = await Promise.all([start(), start(), start()])
  expect(new Set(servers.map((server) => server.port)).size).toBe(3)
})

test('a port that is taken is an error with the message of the server', async () => {
  const server = await start()
  await expect(startRedis({ port: server.port })).rejects.toThrow(/[Aa]ddress already in use/)
})

test('an option that the server does not know is an error', async () => {
  await expect(startRedis({ args: ['--no-such-option', '1'] })).rejects.toThrow(/Redis server to start/)
})
