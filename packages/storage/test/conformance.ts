/**
 * Owns what every driver must do, as tests that run against each: `describeStorage('local', …)`, `describeStorage('s3', …)`.
 *
 * Knows nothing about any driver; what only one can do (signed links, full disks, lost servers) is in that driver's own test file.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Storage, StoredObject } from '../src/storage.ts'

const png = { contentType: 'image/png' }
const largeBytes = 32 * 1024 * 1024

const badKeys = [
  '',
  '/',
  '/etc/passwd',
  '..',
  '../outside.png',
  'images/../../outside.png',
  'images/..',
  './a.png',
  'images/./a.png',
  'images//a.png',
  'images/',
  'images\\..\\..\\outside.png',
  'a\\b.png',
  'a\0.png',
  'a\n.png',
  '.hidden.png',
  'images/.hidden/a.png',
  '\ud800.png',
  `${'a'.repeat(252)}.png`,
  // Few characters and too many bytes.
  `${'ä'.repeat(126)}.png`,
  `${'ä'.repeat(60)}/`.repeat(9) + 'a.png',
  `${'a/'.repeat(600)}a.png`,
]

/** `create` makes a storage on an empty store; it is called once, and the storage is closed at the end. */
export function describeStorage(name: string, create: () => Promise<Storage>): void {
  describe(`${name} as a storage`, () => {
    let storage: Storage

    beforeAll(async () => {
      storage = await create()
      await storage.check()
    })

    afterAll(async () => {
      await storage?.close()
    })

    test('returns the bytes, size, content type and time of what was put', async () => {
      const bytes = randomBytes(10_000)
      const before = Date.now()
      await storage.put('basic/a.png', bytes, png)
      const object = await openExisting(storage, 'basic/a.png')
      expect(object.contentType).toBe('image/png')
      expect(object.size).toBe(10_000)
      const { contentType, size, lastModified } = object
      expect(await storage.stat('basic/a.png')).toEqual({ contentType, size, lastModified })
      // File systems and servers may keep whole seconds or have a clock that is slightly behind.
      expect(object.lastModified.getTime()).toBeGreaterThan(before - 2000)
      expect(object.lastModified.getTime()).toBeLessThan(Date.now() + 2000)
      expect(Buffer.compare(await readAll(object), bytes)).toBe(0)
    })

    test.for([
      ['type/a.png', 'image/png'],
      ['type/a.jpg', 'image/jpeg'],
      ['type/A.JPEG', 'image/jpeg'],
      ['type/a.webp', 'image/webp'],
      ['type/a.json', 'application/json'],
      ['type/a.bin', 'application/octet-stream'],
      ['type/plain', 'application/octet-stream'],
    ] as const)('keeps the content type of %s as %s', async ([key, contentType]) => {
      await storage.put(key, Buffer.from('{}'), { contentType })
      const object = await openExisting(storage, key)
      expect(object.contentType).toBe(contentType)
      await object.body.cancel()
    })

    test('refuses a content type that the key contradicts and stores nothing', async () => {
      await expect(storage.put('type/wrong.png', Buffer.from('x'), { contentType: 'image/jpeg' })).rejects.toThrow(
        'Expected contentType to be image/png for key type/wrong.png, got image/jpeg',
      )
      expect(await storage.open('type/wrong.png')).toBeUndefined()
    })

    test('replaces an object of the same key, even by a shorter one', async () => {
      await storage.put('overwrite/a.png', randomBytes(5000), png)
      await storage.put('overwrite/a.png', Buffer.from('short'), png)
      expect((await readKey(storage, 'overwrite/a.png')).toString()).toBe('short')
    })

    test('stores only the viewed part of a larger buffer, and stores empty objects', async () => {
      const whole = Buffer.from('before-inside-after')
      await storage.put('views/part.png', whole.subarray(7, 13), png)
      expect((await readKey(storage, 'views/part.png')).toString()).toBe('inside')
      await storage.put('views/empty.png', new Uint8Array(0), png)
      expect((await readKey(storage, 'views/empty.png')).length).toBe(0)
    })

    test('keeps keys with spaces, percent signs, plus signs and other alphabets apart', async () => {
      const keys = ['odd/a b.png', 'odd/a%20b.png', 'odd/a+b.png', 'odd/ä日本🙂.png', "odd/a'()!*~&?#=.png"]
      for (const key of keys) await storage.put(key, Buffer.from(key), png)
      for (const key of keys) expect((await readKey(storage, key)).toString()).toBe(key)
      expect((await listKeys(storage, 'odd/')).sort()).toEqual([...keys].sort())
    })

    test('returns undefined for an object that does not exist, for a folder of keys, and for a key below an object', async () => {
      await storage.put('missing/there.png', Buffer.from('x'), png)
      expect(await storage.open('missing/not-there.png')).toBeUndefined()
      expect(await storage.open('no-such-folder/a.png')).toBeUndefined()
      expect(await storage.open('missing')).toBeUndefined()
      expect(await storage.open('missing/there.png/below.png')).toBeUndefined()
      for (const key of ['missing/not-there.png', 'no-such-folder/a.png', 'missing', 'missing/there.png/below.png'])
        expect(await storage.stat(key)).toBeUndefined()
    })

    test('shows readers the old bytes or the new ones while an object is replaced, and never a mixture or a part', async () => {
      const size = 1024 * 1024
      const versions = [1, 2, 3, 4].map((value) => Buffer.alloc(size, value))
      await storage.put('race/a.png', versions[0] ?? Buffer.alloc(0), png)
      const progress = { writing: true }
      const seen = new Set<number>()
      const write = async () => {
        try {
          // As long as it takes until the readers have seen an object being replaced.
          for (let round = 0; round < 12 || (seen.size < 2 && round < 1000); round++)
            await storage.put('race/a.png', versions[round % versions.length] ?? Buffer.alloc(0), png)
        } finally {
          progress.writing = false
        }
      }
      const read = async () => {
        do {
          const bytes = await readKey(storage, 'race/a.png')
          expect(bytes.length).toBe(size)
          expect(new Set(bytes).size).toBe(1)
          seen.add(bytes[0] ?? 0)
        } while (progress.writing)
      }
      await Promise.all([write(), read(), read()])
      expect(seen.size).toBeGreaterThan(1)
    })

    test('keeps the whole bytes of one of several writers to one key', async () => {
      const versions = Array.from({ length: 8 }, (_, value) => Buffer.alloc(200_000, value + 1))
      await Promise.all(versions.map((bytes) => storage.put('writers/a.png', bytes, png)))
      const bytes = await readKey(storage, 'writers/a.png')
      expect(versions.some((version) => version.equals(bytes))).toBe(true)
      expect(await listKeys(storage, 'writers/')).toEqual(['writers/a.png'])
    })

    test('keeps an object of 32 MiB', async () => {
      const bytes = randomBytes(largeBytes)
      await storage.put('large/a.png', bytes, png)
      const object = await openExisting(storage, 'large/a.png')
      expect(object.size).toBe(largeBytes)
      expect(Buffer.compare(await readAll(object), bytes)).toBe(0)
    })

    test('lets a reader stop in the middle', async () => {
      await storage.put('partial/a.png', randomBytes(2 * 1024 * 1024), png)
      const object = await openExisting(storage, 'partial/a.png')
      const reader = object.body.getReader()
      expect((await reader.read()).done).toBe(false)
      await reader.cancel()
      await storage.delete('partial/a.png')
      expect(await storage.open('partial/a.png')).toBeUndefined()
    })

    test('deletes an object, and accepts the deletion of one that does not exist', async () => {
      await storage.put('delete/a.png', Buffer.from('x'), png)
      await storage.put('delete/b.png', Buffer.from('x'), png)
      await storage.delete('delete/a.png')
      expect(await storage.open('delete/a.png')).toBeUndefined()
      expect(await storage.open('delete/b.png')).toBeDefined()
      await storage.delete('delete/a.png')
      await storage.delete('no-such-folder/a.png')
    })

    test('deletes more objects than one call may name, some of which do not exist', async () => {
      const keys = Array.from({ length: 1010 }, (_, index) => `many-deleted/${index}.png`)
      const there = keys.filter((_, index) => index % 50 === 0 || index > 1000)
      for (const key of there) await storage.put(key, Buffer.from('x'), png)
      await storage.put('many-kept/a.png', Buffer.from('x'), png)
      expect(await storage.deleteMany(keys)).toEqual(new Map())
      expect(await listKeys(storage, 'many-deleted/')).toEqual([])
      expect(await listKeys(storage, 'many-kept/')).toEqual(['many-kept/a.png'])
      expect(await storage.deleteMany([])).toEqual(new Map())
    })

    test('lists what begins with the prefix, with the time of each', async () => {
      const keys = ['list/a-0.png', 'list/a-1.png', 'list/b-0.png', 'list/deep/er/a.png', 'listless/a.png']
      for (const key of keys) await storage.put(key, Buffer.from('x'), png)
      expect((await listKeys(storage, 'list/')).sort()).toEqual(keys.slice(0, 4))
      expect((await listKeys(storage, 'list/a-')).sort()).toEqual(keys.slice(0, 2))
      expect((await listKeys(storage, 'list/de')).sort()).toEqual(['list/deep/er/a.png'])
      expect((await listKeys(storage, 'list')).sort()).toEqual(keys)
      expect(await listKeys(storage, '')).toEqual(expect.arrayContaining(keys))
      expect(await listKeys(storage, 'nothing/')).toEqual([])
      for await (const { lastModified } of storage.list('list/')) expect(Math.abs(Date.now() - lastModified.getTime())).toBeLessThan(60_000)
    })

    test('lets a sweep delete while it lists', async () => {
      for (let index = 0; index < 30; index++) await storage.put(`sweep/${index}.png`, Buffer.from('x'), png)
      for await (const { key } of storage.list('sweep/')) await storage.delete(key)
      expect(await listKeys(storage, 'sweep/')).toEqual([])
    })

    test.for(badKeys.map((key) => ({ key, shown: JSON.stringify(key).slice(0, 40) })))(
      'refuses the key $shown in every call without touching the store',
      async ({ key }) => {
        const refusal = { name: 'StorageError', code: 'invalid_key', retryable: false }
        await expect(storage.put(key, Buffer.from('x'), png)).rejects.toMatchObject(refusal)
        await expect(storage.open(key)).rejects.toMatchObject(refusal)
        await expect(storage.stat(key)).rejects.toMatchObject(refusal)
        await expect(storage.url(key, { expiresInSeconds: 60 })).rejects.toMatchObject(refusal)
        await expect(storage.delete(key)).rejects.toMatchObject(refusal)
        await expect(deleteAll(storage, [key])).rejects.toMatchObject(refusal)
      },
    )

    test.for(['/', '../', 'images/../', '.', 'a\\'])('refuses to list the prefix %j', (prefix) => {
      expect(() => storage.list(prefix)).toThrow(expect.objectContaining({ code: 'invalid_key' }))
    })

    test('ends a write with the reason of an aborted signal and stores nothing', async () => {
      const reason = new Error('shutting down')
      const put = storage.put('aborted/a.png', Buffer.from('x'), { ...png, signal: AbortSignal.abort(reason) })
      await expect(put).rejects.toBe(reason)
      expect(await storage.open('aborted/a.png')).toBeUndefined()
    })

    test('passes its check any number of times, even twice at once, and leaves nothing behind', async () => {
      await Promise.all([storage.check(), storage.check()])
      await storage.check()
      expect((await listKeys(storage, '')).filter((key) => key.includes('probe'))).toEqual([])
    })
  })
}

async function deleteAll(storage: Storage, keys: string[]): Promise<void> {
  for (const error of (await storage.deleteMany(keys)).values()) throw error
}

async function openExisting(storage: Storage, key: string): Promise<StoredObject> {
  const object = await storage.open(key)
  if (object === undefined) throw new Error(`Expected an object under ${key}, got none`)
  return object
}

async function readAll(object: StoredObject): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of object.body) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function readKey(storage: Storage, key: string): Promise<Buffer> {
  return readAll(await openExisting(storage, key))
}

async function listKeys(storage: Storage, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list(prefix)) keys.push(key)
  return keys
}
