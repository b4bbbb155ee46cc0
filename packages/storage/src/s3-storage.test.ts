import { randomBytes } from 'node:crypto'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findFreePort } from '@easel/redis-server'
import { describeWithS3Server } from '../test/describe-with-s3-server.ts'
import { startForwarder, startHttpServer } from '../test/forwarder.ts'
import { closeConnections, connectPlainly, connectTo, toBucketName } from '../test/s3-connection.ts'
import type { S3Server } from '../test/server-under-test.ts'
import { describeStorage } from '../test/conformance.ts'
import { putWithRetry, type UploadRetry } from './with-retry.ts'
import type { Storage } from './storage.ts'

const png = { contentType: 'image/png' }

await describeWithS3Server('an S3 bucket', (server) => {
  afterAll(closeConnections)
  describeStorage('an S3 bucket', async () => connectTo(server))
  describeStorage('an S3 bucket with a prefix', async () => connectTo(server, { prefix: '/team/easel/' }))
  describeS3(server)
})

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
      await storage.put('plain/a.png', bytes, png)
      const { ContentType, ContentLength } = await connectPlainly(server).send(
        new HeadObjectCommand({ Bucket: bucket, Key: 'plain/a.png' }),
      )
      expect({ ContentType, ContentLength }).toEqual({ ContentType: 'image/png', ContentLength: 3000 })
    })

    test('puts the prefix before every key and takes it off again', async () => {
      const prefixed = connectTo(server, { bucket, prefix: 'team/easel' })
      await prefixed.put('images/a.png', Buffer.from('x'), png)
      const { ContentLength } = await connectPlainly(server).send(new GetObjectCommand({ Bucket: bucket, Key: 'team/easel/images/a.png' }))
      expect(ContentLength).toBe(1)
      expect((await Array.fromAsync(prefixed.list('images/'))).map(({ key }) => key)).toEqual(['images/a.png'])
      expect((await Array.fromAsync(storage.list('images/'))).map(({ key }) => key)).toEqual([])
    })

    test('looks at an object many times on one connection, without fetching its bytes', async () => {
      await storage.put('looks/a.png', randomBytes(200_000), png)
      const connections: number[] = []
      const endpoint = await startForwarder(server, (chunk, total) => {
        if (total === chunk.length) connections.push(total)
        return 'pass'
      })
      const looking = connectTo(server, { bucket, endpoint })
      for (let look = 0; look < 30; look++) expect((await looking.stat('looks/a.png'))?.size).toBe(200_000)
      expect(connections).toHaveLength(1)
    })

    test('deletes many objects in one call for a thousand, and one by one where the server has no such call', async () => {
      const keys = Array.from({ length: 40 }, (_, index) => `batch/${index} ä.png`)
      const requests: string[] = []
      const endpoint = await startForwarder(server, (chunk) => {
        requests.push(...(chunk.toString('latin1').match(/^(POST|DELETE) /gm) ?? []))
        return 'pass'
      })
      const deleting = connectTo(server, { bucket, endpoint })
      for (const key of keys) await storage.put(key, new Uint8Array(1), png)
      expect(await deleting.deleteMany(keys)).toEqual(new Map())
      expect(requests).toEqual(['POST '])
      expect(await Array.fromAsync(storage.list('batch/'))).toEqual([])

      const single = await startHttpServer((request, response) => {
        if (request.method === 'DELETE') response.writeHead(204).end()
        else response.writeHead(501).end('<Error><Code>NotImplemented</Code></Error>')
      })
      expect(await connectTo(server, { bucket, endpoint: single }).deleteMany(keys)).toEqual(new Map())

      // More than a thousand keys in a call are refused by the protocol.
      const named: number[] = []
      const counting = await startHttpServer((request, response) => {
        void text(request).then((body) => {
          named.push(body.split('<Key>').length - 1)
          response.writeHead(200, { 'content-type': 'application/xml' }).end('<DeleteResult></DeleteResult>')
        })
      })
      const many = Array.from({ length: 2500 }, (_, index) => `${index}.png`)
      expect(await connectTo(server, { bucket, endpoint: counting }).deleteMany(many)).toEqual(new Map())
      expect(named).toEqual([1000, 1000, 500])
    })

    test('ends a write that is under way with the reason of the signal', async () => {
      const abort = new AbortController()
      const reason = new Error('enough')
      // It never answers, so that nothing but the signal ends the write.
      const endpoint = await startHttpServer(() => abort.abort(reason))
      const put = connectTo(server, { bucket, endpoint, requestTimeoutMs: 3_600_000 }).put('a.png', Buffer.from('x'), {
        ...png,
        signal: abort.signal,
      })
      await expect(put).rejects.toBe(reason)
    })

    test('works with credentials that may write objects and do nothing else', async () => {
      const asked: string[] = []
      const endpoint = await startHttpServer((request, response) => {
        const isObject = request.url?.includes('.probe') === true
        asked.push(`${request.method} ${isObject ? 'object' : 'bucket'}`)
        request.resume()
        response.writeHead(isObject ? 200 : 403).end()
      })
      await connectTo(server, { bucket, endpoint }).check()
      expect(asked).toEqual(['HEAD bucket', 'PUT object', 'DELETE object'])
    })

    test('lists only what it could have written itself', async () => {
      const names = ['a.png', '.probe', 'folder/', 'folder/.hidden.png', 'folder/b.png']
      const contents = names.map((name) => `<Contents><Key>${name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`)
      const endpoint = await startHttpServer((_request, response) => {
        response.writeHead(200, { 'content-type': 'application/xml' }).end(`<ListBucketResult>${contents.join('')}</ListBucketResult>`)
      })
      const listed = await Array.fromAsync(connectTo(server, { bucket, endpoint }).list(''))
      expect(listed.map(({ key }) => key)).toEqual(['a.png', 'folder/b.png'])
    })

    test('gives the error of each object that could not be deleted, which is each one when the server does not answer', async () => {
      const partial = await startHttpServer((request, response) => {
        request.resume()
        const error = '<Error><Key>b.png</Key><Code>AccessDenied</Code><Message>no</Message></Error>'
        response.writeHead(200, { 'content-type': 'application/xml' }).end(`<DeleteResult>${error}</DeleteResult>`)
      })
      const failures = await connectTo(server, { bucket, endpoint: partial }).deleteMany(['a.png', 'b.png'])
      expect([...failures]).toMatchObject([['b.png', { name: 'StorageError', code: 'denied' }]])
      const silent = await startHttpServer(() => {})
      const none = await connectTo(server, { bucket, endpoint: silent, requestTimeoutMs: 200 }).deleteMany(['a.png', 'b.png'])
      expect([...none].map(([key, { code }]) => [key, code])).toEqual([
        ['a.png', 'unavailable'],
        ['b.png', 'unavailable'],
      ])
    })

    test('lists more objects than one answer holds', async () => {
      const keys = Array.from({ length: 1050 }, (_, index) => `many/${String(index).padStart(4, '0')}.png`)
      for (let from = 0; from < keys.length; from += 50) {
        await Promise.all(keys.slice(from, from + 50).map((key) => storage.put(key, new Uint8Array(1), png)))
      }
      expect((await Array.fromAsync(storage.list('many/'))).map(({ key }) => key).sort()).toEqual(keys)
    })

    test('signs a link that anyone can open until it expires', async () => {
      const bytes = randomBytes(5000)
      await storage.put('signed/a b+ä.png', bytes, png)
      const before = Date.now()
      const link = await sign(storage, 'signed/a b+ä.png', 600)
      expect(link.expiresAt.getTime()).toBeGreaterThan(before + 599_000)
      expect(link.expiresAt.getTime()).toBeLessThanOrEqual(Date.now() + 600_000)
      // The signature counts whole seconds.
      expect(link.expiresAt.getMilliseconds()).toBe(0)

      const answer = await fetch(link.url)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe('image/png')
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)

      const short = await sign(storage, 'signed/a b+ä.png', 1)
      await delay(short.expiresAt.getTime() - Date.now() + 1100)
      expect((await fetch(short.url)).status).toBe(403)
    })

    test('signs a link to one object only, and only for reading', async () => {
      await storage.put('signed/mine.png', Buffer.from('x'), png)
      await storage.put('signed/other.png', Buffer.from('x'), png)
      const { url } = await sign(storage, 'signed/mine.png', 60)
      expect((await fetch(url.replace('mine.png', 'other.png'))).status).toBe(403)
      expect((await fetch(url, { method: 'DELETE' })).status).toBe(403)
      expect((await fetch(url)).status).toBe(200)
    })

    test('signs links for the public endpoint, which the server sees as Host', async () => {
      const hosts: (string | undefined)[] = []
      const publicEndpoint = await startForwarder(server, (chunk) => {
        hosts.push(/\r\nhost: (.*)\r\n/i.exec(chunk.toString())?.[1])
        return 'pass'
      })
      const behindProxy = connectTo(server, { bucket, publicEndpoint })
      await behindProxy.put('signed/public.png', Buffer.from('x'), png)
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
      await storages[0]?.put('a.png', Buffer.from('x'), png)
      expect(await storages[4]?.open('a.png')).toMatchObject({ size: 1 })
    })

    test('passes the checks of any number of processes at the same time', async () => {
      const storages = Array.from({ length: 20 }, () => connectTo(server, { bucket }))
      for (let round = 0; round < 5; round++) {
        await expect(Promise.all(storages.map((each) => each.check()))).resolves.toHaveLength(20)
      }
    })

    test('reports unavailable for a bucket that does not exist, and check creates it', async () => {
      const missing = connectTo(server, { bucket: toBucketName() })
      const unavailable = { name: 'StorageError', code: 'unavailable', retryable: true }
      await expect(missing.put('a.png', Buffer.from('x'), png)).rejects.toMatchObject(unavailable)
      await expect(missing.open('a.png')).rejects.toMatchObject(unavailable)
      await expect(missing.stat('a.png')).rejects.toMatchObject(unavailable)
      await missing.check()
      await missing.put('a.png', Buffer.from('x'), png)
    })

    test.for([
      ['a wrong secret', { secretAccessKey: 'wrong' }],
      ['a wrong access key', { accessKeyId: 'wrong' }],
    ] as const)('reports denied for %s, without trying again', async ([, wrong]) => {
      const { accessKeyId, secretAccessKey } = server
      const stranger = connectTo(server, { bucket, credentials: { accessKeyId, secretAccessKey, ...wrong } })
      const denied = { name: 'StorageError', code: 'denied', retryable: false }
      await expect(stranger.check()).rejects.toMatchObject(denied)
      await expect(stranger.open('plain/a.png')).rejects.toMatchObject(denied)
      await expect(stranger.delete('plain/a.png')).rejects.toMatchObject(denied)
      await expect(Array.fromAsync(stranger.list(''))).rejects.toMatchObject(denied)
      const retries: UploadRetry[] = []
      const put = putWithRetry(stranger, 'a.png', Buffer.from('x'), png, { onRetry: (retry) => retries.push(retry) })
      await expect(put).rejects.toMatchObject(denied)
      expect(retries).toEqual([])
    })

    test('reports denied with the reason that the server gives when the region is not its own', async ({ skip }) => {
      skip(server.source !== 'process', 'some servers accept any region')
      const elsewhere = connectTo(server, { bucket, region: 'mars-north-1' })
      await expect(elsewhere.check()).rejects.toMatchObject({ code: 'denied', message: expect.stringMatching(/region/i) })
    })

    test('never shows the secret in an error', async () => {
      const secretAccessKey = 'a-secret-that-nobody-may-see'
      const stranger = connectTo(server, { bucket, credentials: { accessKeyId: server.accessKeyId, secretAccessKey } })
      const error: unknown = await stranger.check().catch((error: unknown) => error)
      expect(error).toBeInstanceOf(Error)
      expect(String(error)).not.toContain(secretAccessKey)
    })

    test('reports unavailable when nothing listens at the endpoint', async () => {
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
    ] as const)('reports HTTP %d without an S3 error document, as a proxy sends it, as %s', async ([status, code, retryable]) => {
      const endpoint = await startHttpServer((_request, response) => response.writeHead(status).end('<html>proxy</html>'))
      await expect(connectTo(server, { endpoint }).put('a.png', Buffer.from('x'), png)).rejects.toMatchObject({ code, retryable })
    })

    test('gives up on a server that keeps the connection busy and never answers', async () => {
      const endpoint = await startHttpServer((_request, response) => {
        const busy = setInterval(() => response.writeProcessing(), 20)
        response.on('close', () => clearInterval(busy))
      })
      const put = connectTo(server, { endpoint, requestTimeoutMs: 200 }).put('a.png', Buffer.from('x'), png)
      await expect(put).rejects.toMatchObject({ code: 'unavailable', message: expect.stringMatching(/timeout/i) })
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
        png,
      )
      await connectTo(server, { endpoint }).put('a.png', Buffer.from('x'), png)
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

async function sign(storage: Storage, key: string, expiresInSeconds: number) {
  const link = await storage.url(key, { expiresInSeconds })
  if (link === undefined) throw new Error('Expected a signed link, got none')
  return link
}
