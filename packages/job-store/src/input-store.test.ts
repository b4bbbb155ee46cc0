import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createKeys } from '@easel/contract'
import { startRedis } from '../test/redis-server.ts'
import { createInputStore } from './input-store.ts'
import { type RedisConnection, createRedis } from './redis.ts'

const prefix = '{test}'
const minuteMs = 60_000
let server: Awaited<ReturnType<typeof startRedis>>
let redis: RedisConnection
let picture: { sha256: string; bytes: number }
let made = 0
beforeAll(async () => {
  server = await startRedis()
  redis = createRedis({ url: server.url, use: 'worker', onError: () => {} })
})
beforeEach(() => {
  picture = { sha256: (++made).toString(16).padStart(64, '0'), bytes: 1 }
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

const options = { owner: 'ann', dueAt: Number.POSITIVE_INFINITY }

test('a ticket is for one upload, which is kept once, even if the command is sent twice', async () => {
  const store = createInputStore({ redis, prefix })
  const of = { id: '1', owner: 'ann' }
  const upload = { ...of, ...picture, width: 16, height: 16, content_type: 'image/png' as const }
  await store.putTicket('t', of, 60)
  expect(await store.renewTicket('t', 60)).toEqual(of)
  expect(await Promise.all([store.putUpload(upload, 't'), store.putUpload(upload, 't')])).toEqual([true, false])
  expect(await store.renewTicket('t', 60)).toBeUndefined()
  expect(await store.getUpload('1')).toEqual(upload)
  await store.putTicket('again', { ...of, id: '2' }, 60)
  const args = [createKeys(prefix).upload('2'), createKeys(prefix).uploadTicket('again'), '{}', 'a call'] as const
  const { easelKeepUpload } = redis as unknown as { easelKeepUpload: (...args: readonly string[]) => Promise<number> }
  expect([await easelKeepUpload.call(redis, ...args), await easelKeepUpload.call(redis, ...args)]).toEqual([1, 1])
})

describe('a picture that is being removed', () => {
  test.each([
    ['ahead', 2 * minuteMs],
    ['behind', -2 * minuteMs],
  ])('gets no new holder, even from a process whose clock is %s', async (_, skewMs) => {
    const remover = createInputStore({ redis, prefix })
    const other = createInputStore({ redis, prefix, now: () => Date.now() + skewMs })
    await remover.hold(picture, 'job:a', options)
    expect(await remover.release(picture.sha256, 'job:a')).toBe(true)
    expect(await other.hold(picture, 'job:b', options)).toBe(false)
    await remover.forget(picture.sha256)
    expect(await other.hold(picture, 'job:b', options)).toBe(true)
  })

  test('is removed by one of those who release it at the same time, and checked later in case that one dies', async () => {
    const now = Date.now()
    const store = createInputStore({ redis, prefix, removalMs: minuteMs, now: () => now })
    await store.hold(picture, 'job:a', options)
    const removers = await Promise.all([1, 2, 3].map(() => store.release(picture.sha256, 'job:a')))
    expect(removers).toEqual([true, false, false])
    const due = { sha256: picture.sha256, holder: 'leaving' }
    expect(await store.listDue(now + minuteMs - 1, 1000)).not.toContainEqual(due)
    expect(await store.listDue(now + minuteMs, 1000)).toContainEqual(due)
  })

  test('can be held again when its remover has taken too long', async () => {
    const store = createInputStore({ redis, prefix, removalMs: 50 })
    await store.hold(picture, 'job:a', options)
    await store.release(picture.sha256, 'job:a')
    await expect.poll(() => store.hold(picture, 'job:b', options)).toBe(true)
    expect(await store.release(picture.sha256, 'leaving')).toBe(false)
  })

  test('according to the mark of an earlier version can be held, and is removed when its last holder goes', async () => {
    const store = createInputStore({ redis, prefix })
    await redis.zadd(createKeys(prefix).input(picture.sha256), Date.now(), 'leaving')
    expect(await store.hold(picture, 'job:a', options)).toBe(true)
    expect(await store.release(picture.sha256, 'job:a')).toBe(true)
  })
})
