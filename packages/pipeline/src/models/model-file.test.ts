import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { z } from 'zod'
import { ModelFileError, readModelJson, readModelText } from './model-file.ts'

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

it('a text that is a pipe, a folder or longer than any vocabulary is refused with the name of its file', async () => {
  const pipe = join(folder, 'merges.txt')
  execFileSync('mkfifo', [pipe])
  await expect(readModelText(pipe)).rejects.toThrow(`${pipe}: expected a readable text file, got something that is not a file`)
  await expect(readModelText(folder)).rejects.toThrow(`${folder}: expected a readable text file, got a folder`)
  const long = join(folder, 'long.txt')
  writeFileSync(long, '')
  truncateSync(long, 100e9)
  await expect(readModelText(long)).rejects.toThrow(`${long}: expected a readable text file, got 100000000000 bytes`)
})

it.each([
  ['{ "heads": 0 }', 'heads to be above 0, got 0'],
  ['{ "heads": 1.5 }', 'heads to be an integer, got 1.5'],
  ['{ "heads": 1e400 }', 'heads to be a finite number, got Infinity'],
  ['{ "heads": 1e300 }', 'heads to be at most 9007199254740991, got 1e+300'],
  ['{ "blocks": [] }', 'blocks to be at least 1 entries, got []'],
  ['{ "blocks": {} }', 'blocks to be a list, got {}'],
  ['{ "act": "mish" }', 'act to be one of "relu", "silu", got "mish"'],
  ['[]', 'an object, got []'],
  [`{ "heads": ${'['.repeat(1e5)}${']'.repeat(1e5)} }`, 'heads to be a finite number, got lists or objects within each other, too deep'],
])('%.40s is refused in words', async (json, message) => {
  const file = join(folder, 'words.json')
  writeFileSync(file, json)
  const schema = z.looseObject({
    heads: z.int().positive().default(1),
    blocks: z.array(z.number()).min(1).default([1]),
    act: z.enum(['relu', 'silu']).default('relu'),
  })
  await expect(readModelJson(file, schema)).rejects.toThrow(`${file}: expected ${message}`)
})

it('what a file says is quoted in one line of printable characters', () => {
  const error = new ModelFileError('a', 'tensor \u001b[31mred\nline', 'there', 'x'.repeat(1e6))
  expect(error.message.length).toBeLessThan(1500)
  expect(error.message).toMatch(/^a: expected tensor \\u001b\[31mred\\u000aline to be there, got x+…$/)
})
