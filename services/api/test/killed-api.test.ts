import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { JobQueues, createJobStore, createModelRegistry, createRedis } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { tinyScenes } from './start-api.ts'
import { killProcesses, startProcess, untilStatus } from './start-process.ts'

afterEach(killProcesses)

test('an api killed in the middle of submits loses no job that a client was told of, and a retry with the key makes each job once', async () => {
  const redis = await startRedis()
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  const prefix = '{easel}'
  const store = createJobStore({ redis: connection, prefix })
  const queues = new JobQueues({ redis: connection, prefix, onError: () => {} })
  await createModelRegistry({ redis: connection, prefix }).announce(tinyScenes)

  const submit = async (url: string, i: number): Promise<string | undefined> => {
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': `key-${i}` }
    try {
      const response = await fetch(`${url}/v1/jobs`, { method: 'POST', headers, body: JSON.stringify({ prompt: `p${i}` }) })
      return ((await response.json()) as { id: string }).id
    } catch {
      return undefined
    }
  }
  const numbers = Array.from({ length: 300 }, (_, i) => i)

  const first = await startProcess({ REDIS_URL: redis.url })
  await untilStatus(`${first.url}/readyz`, 200)
  const answers = numbers.map((i) => submit(first.url, i))
  while ((await store.count('', 'queued')) < 20) await sleep(1)
  first.child.kill('SIGKILL')
  const told = await Promise.all(answers)
  expect(told).toContain(undefined)

  const second = await startProcess({ REDIS_URL: redis.url })
  await untilStatus(`${second.url}/readyz`, 200)
  const retried = await Promise.all(numbers.map((i) => submit(second.url, i)))
  expect(retried).toEqual(numbers.map((i) => told[i] ?? retried[i]))
  expect(new Set(retried).size).toBe(300)
  expect(await store.count('', 'queued')).toBe(300)
  expect(await queues.findMissing(['tiny-scenes'], retried.map(String))).toEqual([])

  second.child.kill('SIGTERM')
  expect(await second.ended).toBe(0)
  await queues.close()
  connection.disconnect()
  await redis.stop()
})
