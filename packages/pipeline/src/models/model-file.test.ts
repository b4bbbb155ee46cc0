import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { z } from 'zod'
import { readModelJson } from './model-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'easel-json-'))
afterAll(() => rmSync(folder, { recursive: true }))

it('a JSON file of 64 MiB is read, and a longer one is refused without being read', async () => {
  const file = join(folder, 'config.json')
  const cap = 64 * 2 ** 20
  const schema = z.looseObject({ a: z.number() })
  writeFileSync(file, Buffer.alloc(cap, ' '))
  writeFileSync(file, '{ "a": 1 }', { flag: 'r+' })
  expect(await readModelJson(file, schema)).toEqual({ a: 1 })
  // What follows is a hole: had it been read, the error would be about JSON.
  truncateSync(file, cap + 1)
  await expect(readModelJson(file, schema)).rejects.toThrow(
    `${file}: expected a readable JSON file, got ${cap + 1} bytes, more than the ${cap} that are read`,
  )
})
