import { expect, test } from 'vitest'
import { startStatusServer } from './status-server.ts'

test('the status server says whether the worker lives and whether it can take jobs', async () => {
  let ready = false
  const server = await startStatusServer(0, () => ready)
  try {
    const get = async (path: string) => (await fetch(`http://127.0.0.1:${server.port}${path}`)).status
    expect([await get('/livez'), await get('/readyz'), await get('/')]).toEqual([200, 503, 404])
    ready = true
    expect(await get('/readyz')).toBe(200)
  } finally {
    await server.close()
  }
})
