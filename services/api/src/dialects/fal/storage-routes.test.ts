import { readdir } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { StorageError } from '@easel/storage'
import { uniquePng } from '../../../test/pictures.ts'
import { startTestApi } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'

let api: TestApi
beforeAll(async () => {
  api = await startTestApi()
})
afterAll(async () => {
  await api.close()
})

interface Ticket {
  upload_url: string
  file_url: string
}
const askForTicket = async (): Promise<Ticket> => (await (await api.post('/fal/rest/storage/upload/initiate', {})).json()) as Ticket
const put = async (url: string, file: Uint8Array): Promise<number> =>
  (await fetch(url, { method: 'PUT', body: new Uint8Array(file) })).status
const read = async (url: string): Promise<Buffer> => Buffer.from(await (await fetch(url)).arrayBuffer())
const stored = async (): Promise<string[]> => await readdir(join(api.storageDir, 'inputs')).catch(() => [])

/** A PUT whose client disconnects in the middle of the file. */
async function breakOff(url: string, file: Uint8Array): Promise<void> {
  const broken = request(url, { method: 'PUT', headers: { 'content-length': file.length } })
  broken.on('error', () => {})
  broken.write(file.subarray(0, file.length / 2))
  await expect.poll(() => broken.socket?.bytesWritten ?? 0).toBeGreaterThan(file.length / 2)
  broken.destroy()
}

test('a ticket is used up by a file that is kept, not by one that breaks off or is refused', async () => {
  const { upload_url: url, file_url: kept } = await askForTicket()
  const file = await uniquePng()
  await breakOff(url, file)
  expect(await put(url, Buffer.from('<html>'))).toBe(422)
  expect((await fetch(kept)).status).toBe(404)
  expect(await put(url, file)).toBe(200)
  expect((await read(kept)).equals(file)).toBe(true)
  expect(await put(url, await uniquePng())).toBe(404)
  expect((await read(kept)).equals(file)).toBe(true)
})

test('a ticket is not used up when the store fails', async () => {
  const { upload_url: url } = await askForTicket()
  const file = await uniquePng()
  using storing = vi.spyOn(api.deps.storage, 'put').mockRejectedValueOnce(new StorageError('unavailable', 'disk'))
  expect([await put(url, file), await put(url, file)]).toEqual([503, 200])
  expect(storing).toHaveBeenCalledTimes(2)
})

test('of several files sent at once with one ticket, one is taken and nothing of the others is kept', async () => {
  const before = (await stored()).length
  const { upload_url: url, file_url: kept } = await askForTicket()
  const files = await Promise.all(Array.from({ length: 5 }, async () => await uniquePng()))
  const statuses = await Promise.all(files.map((file) => put(url, file)))
  expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 404, 404, 404, 404])
  expect(await read(kept)).toEqual(files[statuses.indexOf(200)])
  expect(await stored()).toHaveLength(before + 1)
})

test('a file sent twice at once with one ticket is kept once', async () => {
  const { upload_url: url, file_url: kept } = await askForTicket()
  const file = await uniquePng()
  expect((await Promise.all([put(url, file), put(url, file)])).toSorted((a, b) => a - b)).toEqual([200, 404])
  expect(await read(kept)).toEqual(file)
})
