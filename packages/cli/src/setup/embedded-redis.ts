/**
 * Owns the Redis of `npm start`, used unless REDIS_URL names another: one server per checkout, whose jobs survive a restart (data/redis).
 *
 * Invariant: one data folder has one server. Its port, which is remembered beside the data, is the lock: the process that binds it is the
 * owner, and any other (`npm run start:worker` in a second terminal) uses the same server. Knows nothing about queues.
 */
import { Redis } from 'ioredis'
import { randomUUID } from 'node:crypto'
import { link, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { findFreePort, isPortTaken, startRedisProcess } from '@easel/redis-server'
import { makeFolder } from '@easel/process/make-folder'
import { ensureRedisServer } from './ensure-redis.ts'

/** Where the Redis container keeps its data, whatever the folder is called outside. */
const containerDir = '/data'
/** How long to wait for the server on the remembered port to say whose it is. */
const patienceMs = 15_000

export async function openEmbeddedRedis(folder: string): Promise<{ url: string; stop(): Promise<void> }> {
  ensureRedisServer()
  const dir = resolve(folder)
  await makeFolder(dir)
  const portFile = join(dir, 'port')
  for (;;) {
    const port = await rememberedPort(portFile)
    const url = `redis://127.0.0.1:${port}`
    try {
      const redis = await startRedisProcess({ port, dir, appendonly: true, detached: true, image: process.env['REDIS_IMAGE'] })
      return { url, stop: () => redis.stop() }
    } catch (error) {
      if (!isPortTaken(error)) throw error
    }
    if (await isOurs(url, dir)) return { url, stop: async () => {} }
    await writeFile(portFile, String(await findFreePort()))
  }
}

/** Two first starts at the same moment agree on one port, because a link is created atomically or, if the name exists, not at all. */
async function rememberedPort(file: string): Promise<number> {
  const draft = `${file}-${randomUUID()}`
  try {
    await writeFile(draft, String(await findFreePort()))
    await link(draft, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await rm(draft, { force: true })
  }
  return Number(await readFile(file, 'utf8'))
}

/** A second server on the same data would destroy it, so ours gets time to answer even on a machine that stands still for a while. */
async function isOurs(url: string, dir: string): Promise<boolean> {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null, connectTimeout: patienceMs, commandTimeout: patienceMs })
  client.on('error', () => {})
  try {
    await client.connect()
    const [, answer] = await client.config('GET', 'dir')
    return answer === dir || answer === containerDir
  } catch {
    return false
  } finally {
    client.disconnect()
  }
}
