import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { findFreePort } from './find-free-port.ts'

test('a free port is not one that systems give to connections and listeners by themselves', async () => {
  const ports = [await findFreePort(), await findFreePort(), await findFreePort()]
  expect(new Set(ports).size).toBe(3)
  expect(Math.max(...ports)).toBeLessThan(32_768)
})

test('a port on which something listens is passed over', async () => {
  const port = await findFreePort()
  const stranger = createServer().listen(port + 1, '127.0.0.1')
  onTestFinished(() => void stranger.close())
  await once(stranger, 'listening')
  expect(await findFreePort()).toBeGreaterThan(port + 1)
})
