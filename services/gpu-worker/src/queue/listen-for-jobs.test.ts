import { expect, test } from 'vitest'
import { createKeys } from '@easel/contract'
import { createRedis, waitUntilReady } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { listenForJobs } from './listen-for-jobs.ts'

test('a worker learns the owner of a new job, and treats a message of an older api, which names none, as one for any owner', async () => {
  const server = await startRedis()
  const connect = () => createRedis({ url: server.url, use: 'worker', onError: () => {} })
  const [subscriber, redis] = [connect(), connect()]
  try {
    await Promise.all([waitUntilReady(subscriber, 60_000), waitUntilReady(redis, 60_000)])
    const heard: unknown[] = []
    await listenForJobs({ subscriber, prefix: '{told}', modelId: 'a model', onJob: (owner) => heard.push(owner ?? 'anyone') })
    for (const message of ['a model\nb', 'another\nb', 'a model', 'another', '', 'a model\nlast'])
      await redis.publish(createKeys('{told}').waitingChannel, message)
    await expect.poll(() => heard).toEqual(['b', 'anyone', 'last'])
  } finally {
    subscriber.disconnect()
    redis.disconnect()
    await server.stop()
  }
})
