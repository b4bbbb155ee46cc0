import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeStorage } from '@easel/storage/test/conformance'
import { SqliteStorage } from './sqlite-storage.ts'

const png = { contentType: 'image/png' }

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'easel-sqlite-'))
})
afterAll(async () => await rm(dir, { recursive: true, force: true }))

describeStorage('an SQLite file', async () => new SqliteStorage({ file: join(dir, 'conformance.sqlite') }))

describe('an SQLite file', () => {
  test('is shared: one process reads what the other has written, and both may write', async () => {
    const [api, worker] = [1, 2].map(() => new SqliteStorage({ file: join(dir, 'shared.sqlite') }))
    await worker?.put('images/a-0.png', Buffer.from('picture'), png)
    const object = await api?.open('images/a-0.png')
    expect(await new Response(object?.body).text()).toBe('picture')
    await api?.delete('images/a-0.png')
    expect(await worker?.stat('images/a-0.png')).toBeUndefined()
    await Promise.all([api?.close(), worker?.close()])
  })

  test('reports denied where no file can be opened, and unavailable for a file that is not a database', async () => {
    const nowhere = new SqliteStorage({ file: join(dir, 'no', 'such', 'folder.sqlite') })
    await expect(nowhere.check()).rejects.toMatchObject({ name: 'StorageError', code: 'denied', retryable: false })
    await writeFile(join(dir, 'text.sqlite'), 'this is no database, and long enough to be looked at as one'.repeat(50))
    const text = new SqliteStorage({ file: join(dir, 'text.sqlite') })
    await expect(text.put('a.png', Buffer.from('x'), png)).rejects.toMatchObject({ name: 'StorageError', code: 'unavailable' })
  })
})
