import { mkdir, mkdtemp, readdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashModel, listFileSizes } from './model-hash.ts'

let root: string
let model: string
let cache: string
const content = (folder: string, ...marks: string[]) => ({ roots: new Map([['', folder]]), marks })
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

test('a hash that has been kept is used again without reading the model, until a file changes', async () => {
  const first = await hashModel(content(model), cache)
  expect(first).toBe(await hashModel(content(model)))
  const [name = ''] = await readdir(cache)
  await writeFile(join(cache, name), 'f'.repeat(64))
  expect(await hashModel(content(model), cache)).toBe('f'.repeat(64))

  // The same size, but another time.
  await writeFile(join(model, 'model.onnx'), 'WEIGHTS')
  await utimes(join(model, 'model.onnx'), 1, 1)
  const second = await hashModel(content(model), cache)
  expect(second).toBe(await hashModel(content(model)))
  expect(second).not.toBe(first)
})

test('a damaged cache file, or a cache folder that cannot be made, only means that the model is read again', async () => {
  const expected = await hashModel(content(model), cache)
  const [name = ''] = await readdir(cache)
  await writeFile(join(cache, name), 'half a ha')
  expect(await hashModel(content(model), cache)).toBe(expected)
  expect(await hashModel(content(model), join(model, 'model.onnx', 'below-a-file'))).toBe(expected)
})

test('the file that a link leads to counts, wherever the folder is, and leaving a part out makes another model', async () => {
  const elsewhere = await mkdtemp(join(root, 'linked-'))
  await symlink(join(model, 'model.onnx'), join(elsewhere, 'model.onnx'))
  await writeFile(join(elsewhere, 'config.json'), '{}')
  const hash = await hashModel(content(model))
  expect(await hashModel(content(elsewhere))).toBe(hash)
  expect(await hashModel(content(model, 'without text_encoder_3'))).not.toBe(hash)
})

test('weights behind a linked folder count as if they lay in the model', async () => {
  await mkdir(join(model, 'transformer'))
  await writeFile(join(model, 'transformer', 'model.onnx'), 'layers')
  const plain = await hashModel(content(model))
  const elsewhere = join(root, 'elsewhere')
  await rename(join(model, 'transformer'), elsewhere)
  await symlink(elsewhere, join(model, 'transformer'))
  expect(await hashModel(content(model))).toBe(plain)
  await writeFile(join(elsewhere, 'model.onnx'), 'others')
  expect(await hashModel(content(model))).not.toBe(plain)
  // A link back to the model itself does not lead to an endless walk.
  await symlink(model, join(elsewhere, 'again'))
  expect(await hashModel(content(model))).toMatch(/^[0-9a-f]{64}$/)
})

test('safetensors count, hidden files do not, and listFileSizes lists what counts', async () => {
  const first = await hashModel(content(model))
  await writeFile(join(model, '.config.json'), '{}')
  expect(await hashModel(content(model))).toBe(first)
  await writeFile(join(model, 'model.safetensors'), 'weights')
  expect(await hashModel(content(model))).not.toBe(first)
  expect(await listFileSizes(content(model))).toEqual({ 'config.json': 2, 'model.onnx': 7, 'model.safetensors': 7 })
})
