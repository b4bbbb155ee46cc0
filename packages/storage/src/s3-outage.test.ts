import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { describeWithS3Server } from '../test/describe-with-s3-server.ts'
import { startForwarder } from '../test/forwarder.ts'
import { closeConnections, connectTo, toBucketName } from '../test/s3-connection.ts'
import { startS3Server } from '../test/s3-server.ts'
import { mountTmpfs, noTmpfs } from '../test/tmpfs.ts'
import { putWithRetry, type UploadRetry } from './with-retry.ts'

const png = { contentType: 'image/png' }

await describeWithS3Server('an S3 server in trouble', (server) => {
  afterAll(closeConnections)
  describe.skipIf(server.source === 'given')('an S3 server in trouble', () => {
    test('that is down when uploads begin and comes back on the same port gets every object', async () => {
      const storage = connectTo(server)
      await storage.check()
      const retries: UploadRetry[] = []
      await server.kill()
      const objects = Array.from({ length: 4 }, (_, index) => ({ key: `outage/${index}.png`, bytes: randomBytes(100_000) }))
      const uploads = objects.map(({ key, bytes }) => putWithRetry(storage, key, bytes, png, { onRetry: (retry) => retries.push(retry) }))
      while (retries.length < 4) await delay(20)
      await server.restart()
      await Promise.all(uploads)
      expect(retries[0]?.error).toMatchObject({ code: 'unavailable', retryable: true })
      for (const { key, bytes } of objects) {
        const object = await storage.open(key)
        expect(Buffer.from(await new Response(object?.body).arrayBuffer()).equals(bytes)).toBe(true)
      }
    })

    test('that is killed in the middle of a large upload and comes back gets the whole object', async () => {
      let held = false
      // The forwarder reports when the body is under way, which is the moment to break the connection.
      const bytes = randomBytes(32 * 1024 * 1024)
      const underWay = Promise.withResolvers<void>()
      const endpoint = await startForwarder(server, (_chunk, total) => {
        if (total < 4 * 1024 * 1024 || held) return 'pass'
        held = true
        underWay.resolve()
        return 'hold'
      })
      const storage = connectTo(server, { endpoint })
      await storage.check()
      const retries: UploadRetry[] = []
      const upload = putWithRetry(storage, 'outage/large.png', bytes, png, { onRetry: (retry) => retries.push(retry) })
      await underWay.promise
      await server.kill()
      while (retries.length < 1) await delay(20)
      await server.restart()
      await upload
      const object = await storage.open('outage/large.png')
      expect(Buffer.from(await new Response(object?.body).arrayBuffer()).equals(bytes)).toBe(true)
    })

    test('that stops answering is given up after the request timeout, and gets the object when it answers again', async () => {
      const bucket = toBucketName()
      const patient = connectTo(server, { bucket })
      await patient.check()
      const storage = connectTo(server, { bucket, requestTimeoutMs: 300 })
      await server.pause()
      const retries: UploadRetry[] = []
      const upload = putWithRetry(storage, 'frozen/a.png', Buffer.from('x'), png, { onRetry: (retry) => retries.push(retry) })
      while (retries.length < 1) await delay(20)
      await expect(storage.open('frozen/a.png')).rejects.toMatchObject({ code: 'unavailable', retryable: true })
      await server.resume()
      await upload
      expect(retries[0]?.error.message).toMatch(/timeout/i)
      expect(await patient.stat('frozen/a.png')).toMatchObject({ size: 1 })
    })

    test.for(['killed', 'frozen'] as const)('that is %s while an object is read is reported as unavailable', async (trouble) => {
      const bucket = toBucketName()
      const patient = connectTo(server, { bucket })
      await patient.check()
      await patient.put('outage/read.png', randomBytes(32 * 1024 * 1024), png)
      const storage = connectTo(server, { bucket, requestTimeoutMs: 5000 })
      const object = await storage.open('outage/read.png')
      const reader = object?.body.getReader()
      await reader?.read()
      await (trouble === 'killed' ? server.kill() : server.pause())
      onTestFinished(() => (trouble === 'killed' ? server.restart() : server.resume()))
      const readOn = async (): Promise<void> => {
        while ((await reader?.read())?.done === false);
      }
      await expect(readOn()).rejects.toMatchObject({ name: 'StorageError', code: 'unavailable', retryable: true })
    })

    test('that stops answering does not hold up an upload that is aborted', async () => {
      // Nothing but the signal ends the attempt before the test's own time limit.
      const storage = connectTo(server, { requestTimeoutMs: 3_600_000 })
      await storage.check()
      await server.pause()
      onTestFinished(() => server.resume())
      const controller = new AbortController()
      const upload = putWithRetry(storage, 'frozen/b.png', Buffer.from('x'), png, { signal: controller.signal })
      const reason = new Error('shutting down')
      setTimeout(() => controller.abort(reason), 100)
      await expect(upload).rejects.toBe(reason)
    })

    test('that is full says so, keeps the old object, and accepts the new one when there is room again', async ({ skip }) => {
      skip(server.source !== 'process', 'needs a server process on a small disk')
      const disk = (await mountTmpfs('size=8m')) ?? skip(noTmpfs)
      const small = await startS3Server({ dir: disk })
      if ('skipped' in small) throw new Error(small.skipped)
      onTestFinished(() => small.stop())
      const storage = connectTo(small)
      await storage.check()
      await storage.put('a.png', Buffer.from('old'), png)
      await expect(writeFile(join(disk, 'filler'), Buffer.alloc(9 * 1024 * 1024))).rejects.toThrow('ENOSPC')

      const retries: UploadRetry[] = []
      const upload = putWithRetry(storage, 'a.png', randomBytes(1024 * 1024), png, { onRetry: (retry) => retries.push(retry) })
      while (retries.length < 1) await delay(20)
      expect(retries[0]?.error).toMatchObject({ code: 'no_space', retryable: true })
      expect(await storage.open('a.png')).toMatchObject({ size: 3 })
      await rm(join(disk, 'filler'))
      await upload
      expect(await storage.open('a.png')).toMatchObject({ size: 1024 * 1024 })
    })
  })
})
