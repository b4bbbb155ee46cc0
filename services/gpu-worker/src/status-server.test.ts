import { expect, test } from 'vitest'
import { createWorkerMetrics } from './worker-metrics.ts'
import { startStatusServer } from './status-server.ts'

test('the status server says whether the worker lives, whether it can take jobs, and what it counts', async () => {
  let ready = false
  const metrics = createWorkerMetrics()
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
