import { expect, test } from 'vitest'
import { findFreePort } from '@easel/job-store/test/redis-server'
import { WorkerMetrics } from './worker-metrics.ts'
import { startStatusServer } from './status-server.ts'

test('the status server reports whether the worker is alive, whether it can take jobs, and its metrics', async () => {
  let ready = false
  const metrics = new WorkerMetrics()
  const server = await startStatusServer({ host: '127.0.0.1', port: 0, isReady: () => ready, metrics: metrics.registry })
  try {
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${server.port}${path}`)).status
    expect([await get('/livez'), await get('/readyz'), await get('/')]).toEqual([200, 503, 404])
    ready = true
    expect(await get('/readyz')).toBe(200)
    metrics.countEnd('failed', 'timeout')
    const response = await fetch(`http://127.0.0.1:${server.port}/metrics`)
    expect(response.headers.get('content-type')).toContain('text/plain')
    expect(await response.text()).toContain('easel_jobs_total{status="failed",code="timeout"} 1')
  } finally {
    await server.close()
  }
})

test('the status server listens only on the address that it is given, and on all addresses without one', async () => {
  const start = async (host: string | undefined) =>
    startStatusServer({ host, port: await findFreePort(), isReady: () => true, metrics: new WorkerMetrics().registry })
  const answers = async (address: string, port: number) =>
    await fetch(`http://${address}:${port}/livez`).then(
      ({ status }) => status,
      () => 'refused',
    )
  // The whole of 127.0.0.0/8 is this machine on Linux.
  const one = await start('127.0.0.2')
  expect([await answers('127.0.0.2', one.port), await answers('127.0.0.1', one.port)]).toEqual([200, 'refused'])
  await one.close()
  const all = await start(undefined)
  expect([await answers('127.0.0.2', all.port), await answers('127.0.0.1', all.port)]).toEqual([200, 200])
  await all.close()
  await expect(start('x86_64-conda-linux-gnu')).rejects.toThrow(/^METRICS_HOST: Expected an address of this machine/)
})
