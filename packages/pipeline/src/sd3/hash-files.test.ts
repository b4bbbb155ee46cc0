import { createHash } from 'node:crypto'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashFiles } from './hash-files.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-hash-files-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

const sha256 = (...parts: readonly (string | Uint8Array)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest('hex')

test.each([
  ['few bytes, in this thread', 0],
  ['many, on threads of their own', 130 * 2 ** 20],
])('files of %s get their hashes in the order in which they are given', async (_, bytes) => {
  const contents = ['', 'a', 'x'.repeat(2 ** 20 + 1), 'last']
  const paths = contents.map((_, index) => join(folder, `${index}`))
  for (const [index, content] of contents.entries()) await writeFile(paths[index] as string, content)
  // Zeros after its first byte, which take no space on disk.
  if (bytes > 0) await truncate(paths[1] as string, bytes)
  const zeros = new Uint8Array(Math.max(0, bytes - 1))
  expect(await hashFiles(paths)).toEqual([sha256(''), sha256('a', zeros), sha256(contents[2] as string), sha256('last')])
})

test.each([0, 130 * 2 ** 20])('a file that cannot be read is an error, beside %i bytes of others', async (bytes) => {
  const large = join(folder, 'large')
  await writeFile(large, 'a')
  if (bytes > 0) await truncate(large, bytes)
  // A folder can be found and opened, but not read.
  await expect(hashFiles([large, folder])).rejects.toThrow('EISDIR')
})
