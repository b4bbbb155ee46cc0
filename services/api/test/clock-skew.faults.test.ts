/** Processes on machines whose clocks are minutes apart: as far as each process can tell, its wrong time is the right one. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Capabilities, Job, Upload } from '@easel/contract'
import { startRedis } from '@easel/job-store/test/redis-server'
import { uniquePng } from './pictures.ts'
import { killProcesses, startProcess, startWorkerProcess, untilStatus } from './start-process.ts'

let redis: Awaited<ReturnType<typeof startRedis>>
let dir: string
beforeEach(async () => {
  redis = await startRedis()
  dir = await mkdtemp(join(tmpdir(), 'easel-clocks-'))
})
afterEach(async () => {
  killProcesses()
  await redis.stop()
  await rm(dir, { recursive: true, force: true })
})

/** The variables of a process whose clock is ahead by so many ms. */
function onMachine(skewMs: number): Record<string, string> {
  const code = `
    const Right = Date
    globalThis.Date = class extends Right {
      constructor(...given) { super(...(given.length === 0 ? [Right.now() + ${skewMs}] : given)) }
      static now() { return Right.now() + ${skewMs} }
    }
    Object.defineProperty(performance, 'timeOrigin', { value: performance.timeOrigin + ${skewMs} })`
  return {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}`,
    REDIS_URL: redis.url,
    STORAGE_DIR: dir,
    MODELS_DIR: fileURLToPath(new URL('../../../models', import.meta.url)),
    DEVICE: 'cpu',
    WEBHOOK_ALLOW_INSECURE: 'true',
    // Far less than the clocks differ, and far more than a busy machine keeps a worker waiting.
    JOB_LOCK_DURATION: '10',
  }
}

test.each([
  ['ahead of', 120_000],
  ['behind', -120_000],
])('a worker whose clock is two minutes %s that of one api, and four minutes from that of another, serves both', async (_, skewMs) => {
  const told: Job[] = []
  const receiver = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      told.push((JSON.parse(text) as { data: Job }).data)
      response.end()
    })
  })
  receiver.listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  const webhook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`
  const apis = await Promise.all([0, -skewMs].map((ms) => startProcess(onMachine(ms))))
  const worker = await startWorkerProcess(onMachine(skewMs))
  expect(worker.output()).toContain("this machine's clock differs from that of Redis")
  const ids: string[] = []
  for (const { url } of apis) {
    await untilStatus(`${url}/readyz`, 200)
    const { models } = (await (await fetch(`${url}/v1/capabilities`)).json()) as Capabilities
    expect(models.map(({ id, workers }) => [id, workers])).toEqual([['tiny-scenes', 1]])
    const picture = await fetch(`${url}/v1/uploads`, { method: 'POST', body: new Uint8Array(await uniquePng()) })
    const { id: upload } = (await picture.json()) as Upload
    for (const { url: any } of apis) {
      const body = { prompt: 'a red boat', image: `upload:${upload}`, num_inference_steps: 4, expires_in: 60, timeout: 60, webhook }
      const headers = { 'Content-Type': 'application/json', Prefer: 'wait=60' }
      const response = await fetch(`${any}/v1/jobs`, { method: 'POST', body: JSON.stringify(body), headers })
      const job = (await response.json()) as Job
      expect(job).toMatchObject({ status: 'succeeded' })
      for (const at of [job.created_at, job.started_at, job.completed_at]) {
        expect(Math.abs(Date.parse(at ?? '') - Date.now())).toBeLessThan(60_000)
      }
      ids.unshift(job.id)
    }
  }
  for (const { url } of apis) {
    const { jobs } = (await (await fetch(`${url}/v1/jobs`)).json()) as { jobs: Job[] }
    expect(jobs.map(({ id }) => id)).toEqual(ids)
  }
  await expect.poll(() => told.map(({ id }) => id).toSorted(), { timeout: 60_000 }).toEqual(ids.toSorted())
  for (const { output } of [...apis, worker]) expect(output()).not.toMatch(/queued again|was ended|put back|lock of a job is lost/)
  receiver.close()
  receiver.closeAllConnections()
})
