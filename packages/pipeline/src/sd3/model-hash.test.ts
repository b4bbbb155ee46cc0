import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashModelFolder } from './model-hash.ts'

let root: string
let model: string
let cache: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'easel-hash-'))
  model = await mkdtemp(join(root, 'model-'))
  cache = join(root, 'cache')
  await writeFile(join(model, 'model.onnx'), 'weights')
  await writeFile(join(model, 'config.json'), '{}')
})
afterEach(async () => {
  await rm(root, { recursive: true })
})

test('a hash that is kept is taken again, without reading, until a file changes', async () => {
  const first = await hashModelFolder(model, cache)
  expect(first).toBe(await hashModelFolder(model))
  const [name = ''] = await readdir(cache)
  await writeFile(join(cache, name), 'f'.repeat(64))
  expect(await hashModelFolder(model, cache)).toBe('f'.repeat(64))

  // Same size, another time.
  await writeFile(join(model, 'model.onnx'), 'WEIGHTS')
  await utimes(join(model, 'model.onnx'), 1, 1)
  const second = await hashModelFolder(model, cache)
  expect(second).toBe(await hashModelFolder(model))
  expect(second).not.toBe(first)
})

test('a damaged file, or a folder that cannot be made, only means to read again', async () => {
  const expected = await hashModelFolder(model, cache)
  const [name = ''] = await readdir(cache)
  await writeFile(join(cache, name), 'half a ha')
  expect(await hashModelFolder(model, cache)).toBe(expected)
  expect(await hashModelFolder(model, join(model, 'model.onnx', 'below-a-file'))).toBe(expected)
})
