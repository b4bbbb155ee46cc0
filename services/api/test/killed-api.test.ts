import { afterEach, expect, test } from 'vitest'
import { JobQueues, createJobStore, createModelRegistry, createRedis } from '@easel/job-store'
import { startRedis } from '@easel/job-store/test/redis-server'
import { tinyScenes } from './start-api.ts'
import { killProcesses, startProcess, untilStatus } from './start-process.ts'

afterEach(killProcesses)

test('an api killed in the middle of submits loses no job that a client was told about, and repeating each request with its key makes each job once', async () => {
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
  const first = await startProcess({ REDIS_URL: redis.url })
  await untilStatus(`${first.url}/readyz`, 200)
  const told: (string | undefined)[] = []
  let begun = 0
  // Each submits one job after another until it gets no answer, so that the api is killed in the middle of as many.
  const client = async (): Promise<void> => {
    for (;;) {
      const i = begun++
      told[i] = await submit(first.url, i)
      if (told[i] === undefined) return
    }
  }
  const clients = Array.from({ length: 40 }, client)
  await expect.poll(() => store.count('', 'queued')).toBeGreaterThan(40)
  first.child.kill('SIGKILL')
  await Promise.all(clients)
  const numbers = [...told.keys()]

  const second = await startProcess({ REDIS_URL: redis.url })
  await untilStatus(`${second.url}/readyz`, 200)
  const retried = await Promise.all(numbers.map((i) => submit(second.url, i)))
  expect(retried).toEqual(numbers.map((i) => told[i] ?? retried[i]))
  expect(new Set(retried).size).toBe(numbers.length)
  expect(await store.count('', 'queued')).toBe(numbers.length)
  expect(await queues.findMissing(['tiny-scenes'], retried.map(String))).toEqual([])

  second.child.kill('SIGTERM')
  expect(await second.ended).toBe(0)
  await queues.close()
  connection.disconnect()
  await redis.stop()
})
