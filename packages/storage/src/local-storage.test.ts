import { existsSync, readdirSync, statSync } from 'node:fs'
import { mkdtemp, readdir, readFile, readlink, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { mountTmpfs, noTmpfs } from '../test/tmpfs.ts'
import { describeStorage } from '../test/conformance.ts'
import { LocalStorage } from './local-storage.ts'
import type { Storage } from './storage.ts'

const png = { contentType: 'image/png' }

let dir: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'easel-storage-'))
})

afterAll(async () => {
  await rm(dir, { recursive: true, force: true })
})

describeStorage('a local folder', async () => new LocalStorage({ dir: join(dir, 'conformance', 'made', 'at', 'start') }))

/** A storage that is closed when the test ends. */
function openFolder(path: string): LocalStorage {
  const storage = new LocalStorage({ dir: path })
  onTestFinished(() => storage.close())
  return storage
}

describe('a local folder', () => {
  test('is a plain tree of files, with no temporary ones left', async () => {
    const folder = join(dir, 'tree')
    const storage: Storage = openFolder(folder)
    await Promise.all([1, 2, 3].map((value) => storage.put('images/a-0.png', Buffer.alloc(100_000, value), png)))
    await storage.check()
    expect(await readdir(folder, { recursive: true })).toEqual(['images', 'images/a-0.png'])
    expect(await storage.url('images/a-0.png', { expiresInSeconds: 60 })).toBeUndefined()
  })

  test('keeps the old bytes and no temporary file when a write is aborted halfway', async () => {
    const folder = join(dir, 'halfway')
    const storage = openFolder(folder)
    await storage.put('a.png', Buffer.from('old'), png)
    const controller = new AbortController()
    const put = storage.put('a.png', Buffer.alloc(64 * 1024 * 1024), { ...png, signal: controller.signal })
    // The bytes are written in many pieces, each of which this thread begins, so it sees the file while it is incomplete.
    const abortHalfway = (): void => {
      const isUnderWay = readdirSync(folder).some((name) => name !== 'a.png' && statSync(join(folder, name)).size > 0)
      if (isUnderWay) controller.abort(new Error('enough'))
      else setImmediate(abortHalfway)
    }
    abortHalfway()
    await expect(put).rejects.toThrow('enough')
    expect(await readdir(folder)).toEqual(['a.png'])
    expect(await readFile(join(folder, 'a.png'), 'utf8')).toBe('old')
  })

  test('lists no files whose names begin with a dot, and removes what a killed writer left more than an hour ago', async () => {
    const folder = join(dir, 'left-behind')
    const storage = openFolder(folder)
    await storage.put('images/a.png', Buffer.from('x'), png)
    const hoursAgo = new Date(Date.now() - 2 * 3_600_000)
    for (const name of ['.writing-old', '.writing-new', '.keep']) await writeFile(join(folder, 'images', name), 'x')
    await utimes(join(folder, 'images', '.writing-old'), hoursAgo, hoursAgo)
    await utimes(join(folder, 'images', '.keep'), hoursAgo, hoursAgo)
    const keys: string[] = []
    for await (const { key } of storage.list('')) keys.push(key)
    expect(keys).toEqual(['images/a.png'])
    expect((await readdir(join(folder, 'images'))).sort()).toEqual(['.keep', '.writing-new', 'a.png'])
  })

  test('does not take a folder for an object: deleting its name does nothing', async () => {
    const folder = join(dir, 'folder-name')
    const storage = openFolder(folder)
    await storage.put('images/a.png', Buffer.from('x'), png)
    await storage.delete('images')
    await storage.delete('images/a.png/b.png')
    expect(await readdir(join(folder, 'images'))).toEqual(['a.png'])
  })

  test('keeps no folder open that has been removed, and flushes the one in its place', async ({ skip }) => {
    const links = '/proc/self/fd'
    if (!existsSync(links)) skip('this system does not list what a process has open')
    const folder = join(dir, 'taken-away')
    const storage = openFolder(folder)
    const openFolders = async (): Promise<string[]> => {
      const targets = await Promise.all((await readdir(links)).map((fd) => readlink(join(links, fd)).catch(() => '')))
      return targets.filter((target) => target.startsWith(folder))
    }
    await storage.put('a.png', Buffer.from('x'), png)
    expect(await openFolders()).toEqual([folder])
    await rm(folder, { recursive: true })
    await storage.put('a.png', Buffer.from('y'), png)
    expect(await openFolders()).toEqual([folder])
    await storage.close()
    expect(await openFolders()).toEqual([])
  })

  test('reports denied when a file is where the folder should be', async () => {
    const path = join(dir, 'a-file')
    await writeFile(path, '')
    const storage = openFolder(path)
    const denied = { name: 'StorageError', code: 'denied', retryable: false }
    await expect(storage.check()).rejects.toMatchObject(denied)
    await expect(storage.put('a.png', Buffer.from('x'), png)).rejects.toMatchObject(denied)
  })

  test('reports denied where no folder can be made, and does not try again and again', async () => {
    const denied = { name: 'StorageError', code: 'denied', retryable: false, message: expect.stringContaining('/proc/easel') }
    for (const path of ['/proc/easel', '/proc/easel/below']) {
      const storage = openFolder(path)
      await expect(storage.check()).rejects.toMatchObject(denied)
      await expect(storage.put('a.png', Buffer.from('x'), png)).rejects.toMatchObject(denied)
    }
  })

  test('reports denied on a disk that is mounted read-only', async ({ skip }) => {
    const folder = (await mountTmpfs('size=1m,ro')) ?? skip(noTmpfs)
    const storage = openFolder(folder)
    const denied = { name: 'StorageError', code: 'denied', retryable: false }
    await expect(storage.check()).rejects.toMatchObject(denied)
    await expect(storage.put('a.png', Buffer.from('x'), png)).rejects.toMatchObject(denied)
  })

  test('reports no_space on a full disk, keeps the old bytes, and recovers when there is room again', async ({ skip }) => {
    const folder = (await mountTmpfs('size=1m')) ?? skip(noTmpfs)
    const storage = openFolder(folder)
    await storage.check()
    await storage.put('images/a.png', Buffer.from('old'), png)
    const full = { name: 'StorageError', code: 'no_space', retryable: true }
    await expect(storage.put('images/a.png', Buffer.alloc(2 * 1024 * 1024), png)).rejects.toMatchObject(full)
    expect(await readFile(join(folder, 'images/a.png'), 'utf8')).toBe('old')
    expect(await readdir(join(folder, 'images'))).toEqual(['a.png'])

    // Another program uses up the remaining space.
    await expect(writeFile(join(folder, 'filler'), Buffer.alloc(2 * 1024 * 1024))).rejects.toThrow('ENOSPC')
    await expect(storage.check()).rejects.toMatchObject(full)
    await rm(join(folder, 'filler'))
    await storage.check()
    await storage.put('images/a.png', Buffer.from('new'), png)
    expect(await readFile(join(folder, 'images/a.png'), 'utf8')).toBe('new')
  })
})
