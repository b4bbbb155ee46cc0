import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { LocalStorage } from './local-storage.ts'
import { putWithRetry, readWithRetry, type RetryOptions, type UploadRetry } from './with-retry.ts'
import type { Storage } from './storage.ts'
import { StorageError } from './storage-error.ts'

const png = { contentType: 'image/png' }
const someBytes = Buffer.from('picture')

test('waits 0.5 s, doubling to 10 s, for at least two minutes, then throws the last error', async () => {
  const { storage, attempts } = await createFailing(() => new StorageError('unavailable', 'down'))
  const { clock, waits } = createClock(0)
  const put = putWithRetry(storage, 'a.png', someBytes, png, clock)
  await expect(put).rejects.toMatchObject({ code: 'unavailable', message: 'down' })
  expect(waits.slice(0, 7)).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000])
  const waited = waits.reduce((sum, wait) => sum + wait, 0)
  expect(waited).toBeGreaterThanOrEqual(120_000)
  expect(waited).toBeLessThanOrEqual(130_000)
  expect(attempts).toHaveLength(waits.length + 1)
})

test('shortens each wait by up to half, and so tries more often', async () => {
  const { storage } = await createFailing(() => new StorageError('unavailable', 'down'))
  const { clock, waits } = createClock(0.999_999)
  await expect(putWithRetry(storage, 'a.png', someBytes, png, clock)).rejects.toThrow('down')
  expect(waits.slice(0, 6).map(Math.round)).toEqual([250, 500, 1000, 2000, 4000, 5000])
  expect(waits.reduce((sum, wait) => sum + wait, 0)).toBeGreaterThanOrEqual(120_000)
})

test('counts the time that attempts themselves take', async () => {
  const { clock, waits, pass } = createClock(0)
  const { storage, attempts } = await createFailing(() => {
    pass(60_000)
    return new StorageError('unavailable', 'timeout')
  })
  await expect(putWithRetry(storage, 'a.png', someBytes, png, clock)).rejects.toThrow('timeout')
  expect(attempts).toHaveLength(3)
  expect(waits).toEqual([500, 1000])
})

test('stores the object once the store is back, and reports each failure before the wait', async () => {
  const { storage, folder, attempts } = await createFailing((attempt) => (attempt <= 3 ? new StorageError('no_space', 'full') : undefined))
  const retries: UploadRetry[] = []
  const { clock } = createClock(0)
  await putWithRetry(storage, 'images/a.png', someBytes, png, { ...clock, onRetry: (retry) => retries.push(retry) })
  expect(await readFile(join(folder, 'images/a.png'), 'utf8')).toBe('picture')
  expect(attempts).toHaveLength(4)
  expect(retries.map(({ key, attempt, delayMs, error }) => ({ key, attempt, delayMs, code: error.code }))).toEqual([
    { key: 'images/a.png', attempt: 1, delayMs: 500, code: 'no_space' },
    { key: 'images/a.png', attempt: 2, delayMs: 1000, code: 'no_space' },
    { key: 'images/a.png', attempt: 3, delayMs: 2000, code: 'no_space' },
  ])
})

test.for([new StorageError('denied', 'refused'), new StorageError('invalid_key', 'bad key'), new TypeError('a bug')])(
  'throws %s immediately, because waiting does not help',
  async (error) => {
    const { storage, attempts } = await createFailing(() => error)
    const { clock, waits } = createClock(0)
    await expect(putWithRetry(storage, 'a.png', someBytes, png, clock)).rejects.toBe(error)
    expect({ attempts: attempts.length, waits }).toEqual({ attempts: 1, waits: [] })
  },
)

test('tries once when retryForMs is 0', async () => {
  const { storage, attempts } = await createFailing(() => new StorageError('unavailable', 'down'))
  const { clock, waits } = createClock(0)
  await expect(putWithRetry(storage, 'a.png', someBytes, png, { ...clock, retryForMs: 0 })).rejects.toThrow('down')
  expect({ attempts: attempts.length, waits }).toEqual({ attempts: 1, waits: [] })
})

test('rejects with the reason of the signal during a real wait, before any attempt, and after a failed one', async () => {
  const reason = new Error('shutting down')
  const { storage, attempts } = await createFailing(() => new StorageError('unavailable', 'down'))

  const controller = new AbortController()
  const onRetry = () => setImmediate(() => controller.abort(reason))
  await expect(putWithRetry(storage, 'a.png', someBytes, png, { signal: controller.signal, onRetry })).rejects.toBe(reason)
  expect(attempts).toHaveLength(1)

  await expect(putWithRetry(storage, 'a.png', someBytes, png, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  expect(attempts).toHaveLength(1)

  const during = new AbortController()
  const failing = await createFailing(() => {
    during.abort(reason)
    return new StorageError('unavailable', 'cut off')
  })
  await expect(putWithRetry(failing.storage, 'a.png', someBytes, png, { signal: during.signal })).rejects.toBe(reason)

  const refused = new AbortController()
  const refusing = await createFailing(() => {
    refused.abort(reason)
    return new StorageError('denied', 'refused')
  })
  await expect(putWithRetry(refusing.storage, 'a.png', someBytes, png, { signal: refused.signal })).rejects.toBe(reason)
})

test('reads an object again when its bytes stop in the middle, and returns undefined for one that does not exist', async () => {
  const { storage, folder } = await createFailing(() => undefined)
  await storage.put('a.png', someBytes, png)
  let opened = 0
  const breaking: Storage = Object.assign(openFolder(folder), {
    async open(key: string) {
      const object = await storage.open(key)
      if (object === undefined || ++opened > 2) return object
      await object.body.cancel()
      return { ...object, body: new ReadableStream({ pull: (controller) => controller.error(new StorageError('unavailable', 'cut off')) }) }
    },
  })
  const { clock, waits } = createClock(0)
  expect(await readWithRetry(breaking, 'a.png', clock)).toEqual(someBytes)
  expect(waits).toEqual([500, 1000])
  expect(await readWithRetry(breaking, 'b.png', clock)).toBeUndefined()
  opened = 0
  await expect(readWithRetry(breaking, 'a.png', { ...clock, retryForMs: 0 })).rejects.toThrow('cut off')
})

test('fails immediately in a real folder that cannot be used, and works once it can', async () => {
  const folder = await createFolder()
  const path = join(folder, 'store')
  const storage = openFolder(path)
  // The local driver treats a file in place of the folder as a refusal, so the upload ends at once.
  await writeFile(path, '')
  await expect(putWithRetry(storage, 'a.png', someBytes, png)).rejects.toMatchObject({ code: 'denied' })
  await rm(path)
  await putWithRetry(storage, 'a.png', someBytes, png)
  expect(await readFile(join(path, 'a.png'), 'utf8')).toBe('picture')
})

/** A storage that is closed when the test ends. */
function openFolder(path: string): LocalStorage {
  const storage = new LocalStorage({ dir: path })
  onTestFinished(() => storage.close())
  return storage
}

async function createFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-retry-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A real folder, except that `fail` may make calls fail; `attempts` counts the calls. */
async function createFailing(fail: (attempt: number) => Error | undefined) {
  const folder = await createFolder()
  const local = openFolder(folder)
  const attempts: string[] = []
  const storage: Storage = Object.assign(openFolder(folder), {
    async put(...put: Parameters<Storage['put']>) {
      attempts.push(put[0])
      const error = fail(attempts.length)
      if (error !== undefined) throw error
      await local.put(...put)
    },
  })
  return { storage, folder, attempts }
}

/** Time that passes only by waiting, and by `pass`. */
function createClock(random: number) {
  let nowMs = 1_000_000
  const waits: number[] = []
  const pass = (ms: number) => {
    nowMs += ms
  }
  const clock: RetryOptions = {
    now: () => nowMs,
    random: () => random,
    sleep: async (ms) => {
      waits.push(ms)
      pass(ms)
    },
  }
  return { clock, waits, pass }
}
