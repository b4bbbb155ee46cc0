import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Server as TcpServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { findFreePort } from '../test/server-under-test.ts'
import { type S3Server, startS3Server } from '../test/s3-server.ts'
import { describeStorage } from './conformance.ts'
import { putWithRetry, type UploadRetry } from './put-with-retry.ts'
import { createS3Storage, type S3StorageOptions } from './s3-storage.ts'
import type { Storage } from './storage.ts'

const PNG = { contentType: 'image/png' }
const run = promisify(execFile)

const closers: (() => Promise<void>)[] = []

// Started here and not in a hook: whether there is a server decides which tests there are.
const started = await startS3Server()

if ('skipped' in started) {
  test('an S3 bucket', ({ skip }) => {
    skip(started.skipped)
    expect.unreachable()
  })
} else {
  const server = started
  afterAll(async () => {
    for (const close of closers) await close()
    await server.stop()
  })
  describeStorage('an S3 bucket', async () => connectTo(server))
  describeStorage('an S3 bucket with a prefix', async () => connectTo(server, { prefix: '/team/easel/' }))
  describeS3(server)
  describeFaults(server)
}

function describeS3(server: S3Server): void {
  describe('an S3 bucket', () => {
    let storage: Storage
    const bucket = toBucketName()

    beforeAll(async () => {
      storage = connectTo(server, { bucket })
      await storage.check()
    })

    test('stores the content type with the object and no bytes beside it', async () => {
      const bytes = randomBytes(3000)
      await storage.put('plain/a.png', bytes, PNG)
      const { ContentType, ContentLength } = await connectPlainly(server).send(
        new HeadObjectCommand({ Bucket: bucket, Key: 'plain/a.png' }),
      )
      expect({ ContentType, ContentLength }).toEqual({ ContentType: 'image/png', ContentLength: 3000 })
    })

    test('puts the prefix before every key and takes it off again', async () => {
      const prefixed = connectTo(server, { bucket, prefix: 'team/easel' })
      await prefixed.put('images/a.png', Buffer.from('x'), PNG)
      const { ContentLength } = await connectPlainly(server).send(new GetObjectCommand({ Bucket: bucket, Key: 'team/easel/images/a.png' }))
      expect(ContentLength).toBe(1)
      expect((await Array.fromAsync(prefixed.list('images/'))).map(({ key }) => key)).toEqual(['images/a.png'])
      expect((await Array.fromAsync(storage.list('images/'))).map(({ key }) => key)).toEqual([])
    })

    test('lists more objects than one answer holds', async () => {
      const keys = Array.from({ length: 1050 }, (_, index) => `many/${String(index).padStart(4, '0')}.png`)
      for (let from = 0; from < keys.length; from += 50) {
        await Promise.all(keys.slice(from, from + 50).map((key) => storage.put(key, new Uint8Array(1), PNG)))
      }
      expect((await Array.fromAsync(storage.list('many/'))).map(({ key }) => key).sort()).toEqual(keys)
    })

    test('signs a link that anyone can open until it expires', async () => {
      const bytes = randomBytes(5000)
      await storage.put('signed/a b+ä.png', bytes, PNG)
      const before = Date.now()
      const link = await sign(storage, 'signed/a b+ä.png', 2)
      expect(link.expiresAt.getTime()).toBeGreaterThan(before)
      expect(link.expiresAt.getTime()).toBeLessThanOrEqual(Date.now() + 2000)

      const answer = await fetch(link.url)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe('image/png')
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)

      await delay(link.expiresAt.getTime() - Date.now() + 1100)
      expect((await fetch(link.url)).status).toBe(403)
    })

    test('signs nothing but the one object', async () => {
      await storage.put('signed/mine.png', Buffer.from('x'), PNG)
      await storage.put('signed/other.png', Buffer.from('x'), PNG)
      const { url } = await sign(storage, 'signed/mine.png', 60)
      expect((await fetch(url.replace('mine.png', 'other.png'))).status).toBe(403)
      expect((await fetch(url, { method: 'DELETE' })).status).toBe(403)
      expect((await fetch(url)).status).toBe(200)
    })

    test('signs for the public endpoint, which arrives as Host', async () => {
      const hosts: (string | undefined)[] = []
      const publicEndpoint = await startForwarder(server, (chunk) => {
        hosts.push(/\r\nhost: (.*)\r\n/i.exec(chunk.toString())?.[1])
        return 'pass'
      })
      const behindProxy = connectTo(server, { bucket, publicEndpoint })
      await behindProxy.put('signed/public.png', Buffer.from('x'), PNG)
      expect(hosts).toEqual([])
      const { url } = await sign(behindProxy, 'signed/public.png', 60)
      expect(url.startsWith(`${publicEndpoint}/${bucket}/signed/public.png?`)).toBe(true)
      expect((await fetch(url)).status).toBe(200)
      expect(hosts).toEqual([new URL(publicEndpoint).host])
    })

    test.for([0, -1, 1.5, 604_801, Number.NaN])('refuses to sign a link for %d seconds', async (expiresInSeconds) => {
      await expect(storage.url('a.png', { expiresInSeconds })).rejects.toThrow(
        'Expected expiresInSeconds to be an integer from 1 to 604800',
      )
    })

    test('creates the bucket when several processes start at once', async () => {
      const name = toBucketName()
      const storages = Array.from({ length: 5 }, () => connectTo(server, { bucket: name }))
      await Promise.all(storages.map((each) => each.check()))
      await storages[0]?.put('a.png', Buffer.from('x'), PNG)
      expect(await storages[4]?.open('a.png')).toMatchObject({ size: 1 })
    })

    test('says unavailable for a bucket that is not there, which check repairs', async () => {
      const missing = connectTo(server, { bucket: toBucketName() })
      const unavailable = { name: 'StorageError', code: 'unavailable', retryable: true }
      await expect(missing.put('a.png', Buffer.from('x'), PNG)).rejects.toMatchObject(unavailable)
      await expect(missing.open('a.png')).rejects.toMatchObject(unavailable)
      await missing.check()
      await missing.put('a.png', Buffer.from('x'), PNG)
    })

    test.for([
      ['a wrong secret', { secretAccessKey: 'wrong' }],
      ['a wrong access key', { accessKeyId: 'wrong' }],
    ] as const)('says denied for %s, without trying again', async ([, wrong]) => {
      const { accessKeyId, secretAccessKey } = server
      const stranger = connectTo(server, { bucket, credentials: { accessKeyId, secretAccessKey, ...wrong } })
      const denied = { name: 'StorageError', code: 'denied', retryable: false }
      await expect(stranger.check()).rejects.toMatchObject(denied)
      await expect(stranger.open('plain/a.png')).rejects.toMatchObject(denied)
      await expect(stranger.delete('plain/a.png')).rejects.toMatchObject(denied)
      await expect(Array.fromAsync(stranger.list(''))).rejects.toMatchObject(denied)
      const retries: UploadRetry[] = []
      const put = putWithRetry(stranger, 'a.png', Buffer.from('x'), PNG, { onRetry: (retry) => retries.push(retry) })
      await expect(put).rejects.toMatchObject(denied)
      expect(retries).toEqual([])
    })

    test('says denied with the reason of the server when the region is not its own', async ({ skip }) => {
      skip(server.source !== 'process', 'some servers take any region')
      const elsewhere = connectTo(server, { bucket, region: 'mars-north-1' })
      await expect(elsewhere.check()).rejects.toMatchObject({ code: 'denied', message: expect.stringMatching(/region/i) })
    })

    test('never tells the secret in an error', async () => {
      const secretAccessKey = 'a-secret-that-nobody-may-see'
      const stranger = connectTo(server, { bucket, credentials: { accessKeyId: server.accessKeyId, secretAccessKey } })
      const error: unknown = await stranger.check().catch((error: unknown) => error)
      expect(error).toBeInstanceOf(Error)
      expect(String(error)).not.toContain(secretAccessKey)
    })

    test('says unavailable when nothing listens at the endpoint', async () => {
      const port = await findFreePort()
      const nowhere = connectTo(server, { endpoint: `http://127.0.0.1:${port}` })
      const unavailable = { name: 'StorageError', code: 'unavailable', retryable: true }
      await expect(nowhere.check()).rejects.toMatchObject(unavailable)
      await expect(nowhere.open('a.png')).rejects.toMatchObject(unavailable)
    })

    test.for([
      [502, 'unavailable', true],
      [503, 'unavailable', true],
      [429, 'unavailable', true],
      [507, 'no_space', true],
      [501, 'denied', false],
      [413, 'denied', false],
    ] as const)('takes HTTP %d without an S3 error document, as a proxy sends it, for %s', async ([status, code, retryable]) => {
      const endpoint = await startHttpServer((_request, response) => response.writeHead(status).end('<html>proxy</html>'))
      await expect(connectTo(server, { endpoint }).put('a.png', Buffer.from('x'), PNG)).rejects.toMatchObject({ code, retryable })
    })

    test('sends encryption and ACL with each object when they are asked for', async () => {
      const seen: Record<string, unknown>[] = []
      const endpoint = await startHttpServer((request, response) => {
        seen.push(request.headers)
        request.resume().on('end', () => response.writeHead(200, { etag: '"x"' }).end())
      })
      await connectTo(server, { endpoint, serverSideEncryption: 'aws:kms', kmsKeyId: 'key-1', acl: 'public-read' }).put(
        'a.png',
        Buffer.from('x'),
        PNG,
      )
      await connectTo(server, { endpoint }).put('a.png', Buffer.from('x'), PNG)
      expect(seen[0]).toMatchObject({
        'x-amz-server-side-encryption': 'aws:kms',
        'x-amz-server-side-encryption-aws-kms-key-id': 'key-1',
        'x-amz-acl': 'public-read',
        'content-type': 'image/png',
        'content-length': '1',
      })
      expect(Object.keys(seen[1] ?? {}).filter((name) => /encryption|acl|checksum|sdk-checksum|trailer/.test(name))).toEqual([])
    })
  })
}

function describeFaults(server: S3Server): void {
  describe.skipIf(server.source === 'given')('an S3 server in trouble', () => {
    test('that is killed during uploads and comes back on the same port gets every object', async () => {
      const storage = connectTo(server)
      await storage.check()
      const retries: UploadRetry[] = []
      await server.kill()
      const objects = Array.from({ length: 4 }, (_, index) => ({ key: `outage/${index}.png`, bytes: randomBytes(100_000) }))
      const uploads = objects.map(({ key, bytes }) => putWithRetry(storage, key, bytes, PNG, { onRetry: (retry) => retries.push(retry) }))
      while (retries.length < 4) await delay(20)
      await server.restart()
      await Promise.all(uploads)
      expect(retries[0]?.error).toMatchObject({ code: 'unavailable', retryable: true })
      for (const { key, bytes } of objects) {
        const object = await storage.open(key)
        expect(Buffer.from(await new Response(object?.body).arrayBuffer()).equals(bytes)).toBe(true)
      }
    })

    test('that is killed in the middle of one large upload gets the whole object', async () => {
      let held = false
      // The forwarder tells when the body is under way, which is the moment to pull the plug.
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
      const upload = putWithRetry(storage, 'outage/large.png', bytes, PNG, { onRetry: (retry) => retries.push(retry) })
      await underWay.promise
      await server.kill()
      while (retries.length < 1) await delay(20)
      await server.restart()
      await upload
      const object = await storage.open('outage/large.png')
      expect(Buffer.from(await new Response(object?.body).arrayBuffer()).equals(bytes)).toBe(true)
    })

    test('that stops answering runs into the request timeout, and gets the object when it wakes up', async () => {
      const storage = connectTo(server, { requestTimeoutMs: 300 })
      await storage.check()
      await server.pause()
      const retries: UploadRetry[] = []
      const upload = putWithRetry(storage, 'frozen/a.png', Buffer.from('x'), PNG, { onRetry: (retry) => retries.push(retry) })
      while (retries.length < 1) await delay(20)
      await expect(storage.open('frozen/a.png')).rejects.toMatchObject({ code: 'unavailable', retryable: true })
      await server.resume()
      await upload
      expect(retries[0]?.error.message).toMatch(/timeout/i)
      expect(await storage.open('frozen/a.png')).toMatchObject({ size: 1 })
    })

    test('that stops answering lets go of an upload when it is aborted', async () => {
      const storage = connectTo(server)
      await storage.check()
      await server.pause()
      onTestFinished(() => server.resume())
      const controller = new AbortController()
      const upload = putWithRetry(storage, 'frozen/b.png', Buffer.from('x'), PNG, { signal: controller.signal })
      const reason = new Error('shutting down')
      setTimeout(() => controller.abort(reason), 100)
      await expect(upload).rejects.toBe(reason)
    })

    test('that is full says so, keeps the old object, and takes the new one when there is room again', async ({ skip }) => {
      skip(server.source !== 'process', 'needs a server process on a small disk')
      const disk = (await mountTmpfs()) ?? skip('a tmpfs cannot be mounted here (needs root and the right to mount)')
      const small = await startS3Server({ dir: disk })
      if ('skipped' in small) throw new Error(small.skipped)
      onTestFinished(() => small.stop())
      const storage = connectTo(small)
      await storage.check()
      await storage.put('a.png', Buffer.from('old'), PNG)
      await expect(writeFile(join(disk, 'filler'), Buffer.alloc(9 * 1024 * 1024))).rejects.toThrow('ENOSPC')

      const retries: UploadRetry[] = []
      const upload = putWithRetry(storage, 'a.png', randomBytes(1024 * 1024), PNG, { onRetry: (retry) => retries.push(retry) })
      while (retries.length < 1) await delay(20)
      expect(retries[0]?.error).toMatchObject({ code: 'no_space', retryable: true })
      expect(await storage.open('a.png')).toMatchObject({ size: 3 })
      await rm(join(disk, 'filler'))
      await upload
      expect(await storage.open('a.png')).toMatchObject({ size: 1024 * 1024 })
    })
  })
}

function toBucketName(): string {
  return `easel-test-${randomUUID()}`
}

/** A storage over a bucket of its own unless told otherwise, closed when the file's tests are done. */
function connectTo(server: S3Server, options: Partial<S3StorageOptions> = {}): Storage {
  const { endpoint, accessKeyId, secretAccessKey } = server
  const storage = createS3Storage({ endpoint, bucket: toBucketName(), credentials: { accessKeyId, secretAccessKey }, ...options })
  closers.push(() => storage.close())
  return storage
}

function connectPlainly(server: S3Server): S3Client {
  const { endpoint, accessKeyId, secretAccessKey } = server
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
  closers.push(async () => client.destroy())
  return client
}

async function sign(storage: Storage, key: string, expiresInSeconds: number) {
  const link = await storage.url(key, { expiresInSeconds })
  if (link === undefined) throw new Error('Expected a signed link, got none')
  return link
}

/**
 * A port that passes every byte on to the server. `onRequestBytes` sees them with the count so far on that connection; `hold` keeps the
 * connection where it is until the server ends it.
 */
async function startForwarder(server: S3Server, onRequestBytes: (chunk: Buffer, total: number) => 'pass' | 'hold'): Promise<string> {
  const { hostname, port } = new URL(server.endpoint)
  const sockets = new Set<Socket>()
  const forwarder = createTcpServer((downstream) => {
    const upstream = connect(Number(port), hostname)
    let total = 0
    downstream.on('data', (chunk) => {
      total += chunk.length
      if (onRequestBytes(chunk, total) === 'pass') upstream.write(chunk)
      else downstream.pause()
    })
    upstream.on('data', (chunk) => downstream.write(chunk))
    for (const [socket, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => other.destroy())
    }
  })
  return listen(forwarder, () => {
    for (const socket of sockets) socket.destroy()
  })
}

async function startHttpServer(onRequest: RequestListener): Promise<string> {
  const server = createHttpServer(onRequest)
  return listen(server, () => server.closeAllConnections())
}

/** Listens on a free port until the test ends. */
async function listen(server: TcpServer, closeConnections: () => void): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    closeConnections()
    server.close()
    await once(server, 'close')
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A file system of 8 MiB in memory, unmounted when the test ends; undefined where mounting is not allowed. */
async function mountTmpfs(): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-s3-disk-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder])
  } catch {
    return undefined
  }
  // Hooks run in reverse order: this one before the folder is removed.
  onTestFinished(async () => {
    await run('umount', ['--lazy', folder])
  })
  return folder
}
