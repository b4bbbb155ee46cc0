import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startTestApi } from './start-api.ts'
import type { TestApi } from './start-api.ts'

/** A connection that has received one answer and is idle now. */
async function connectIdle(api: TestApi): Promise<Socket> {
  const { hostname, port } = new URL(api.url)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  await ask(socket)
  return socket
}

async function ask(socket: Socket): Promise<string> {
  socket.write('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  return chunk.toString()
}

test('an idle connection stays open for KEEP_ALIVE_TIMEOUT, which is longer than the five seconds of the runtime, and then closes', async () => {
  const patient = await startTestApi()
  const hasty = await startTestApi({ redis: patient.redis, env: { KEEP_ALIVE_TIMEOUT: '1' } })
  const [long, short] = [await connectIdle(patient), await connectIdle(hasty)]
  let closed = false
  long.on('close', () => (closed = true))
  await once(short, 'close')
  // Longer than the five seconds and the second that the runtime adds.
  await sleep(7000)
  expect(closed).toBe(false)
  expect(await ask(long)).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
  expect(await ask(long)).toMatch(/keep-alive: timeout=75/i)
  long.destroy()
  await hasty.close()
  await patient.close()
})
