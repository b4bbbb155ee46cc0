import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { writePullRecord } from './model-record.ts'
import { listModels, removeModel } from './stored-models.ts'

let modelsDir: string
beforeEach(async () => {
  modelsDir = await mkdtemp(join(tmpdir(), 'easel-models-'))
  onTestFinished(() => rm(modelsDir, { recursive: true, force: true }))
})

/** Only a header of the stated length, which is enough to be listed. */
function safetensors(dtype: string): Buffer {
  const header = Buffer.from(
    JSON.stringify({ a: { dtype, shape: [4, 4], data_offsets: [0, 0] }, b: { dtype: 'F32', shape: [2], data_offsets: [0, 0] } }),
  )
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header])
}

async function write(path: string, content: string | Buffer): Promise<void> {
  await mkdir(dirname(join(modelsDir, path)), { recursive: true })
  await writeFile(join(modelsDir, path), content)
}

const index = JSON.stringify({ _class_name: 'StableDiffusion3Pipeline', transformer: ['diffusers', 'SD3Transformer2DModel'] })

async function writeModel(name: string, dtype: string): Promise<void> {
  await write(`${name}/model_index.json`, index)
  await write(`${name}/transformer/config.json`, '{}')
  await write(`${name}/transformer/diffusion_pytorch_model.safetensors`, safetensors(dtype))
}

test('a link that leads nowhere or upwards, or a pipe, does not keep other models from being listed', async () => {
  await writeModel('mine', 'F16')
  const bytes = (await listModels(modelsDir))[0]!.bytes
  await symlink('/absent', join(modelsDir, 'mine/sd3.safetensors'))
  await symlink(join(modelsDir, 'mine'), join(modelsDir, 'mine/transformer/again'))
  await writeModel('linked', 'F16')
  await rm(join(modelsDir, 'linked/transformer/diffusion_pytorch_model.safetensors'))
  await symlink('/absent', join(modelsDir, 'linked/transformer/diffusion_pytorch_model.safetensors'))
  await write('piped/transformer/config.json', '{}')
  for (const name of ['model_index.json', 'transformer/model.safetensors']) execFileSync('mkfifo', [join(modelsDir, 'piped', name)])
  await write('variant/model_index.json', index)
  await write('variant/transformer/config.json', '{}')
  await write('variant/transformer/model.fp16-00001-of-00002.safetensors', safetensors('F16'))
  await write('variant/transformer/model.safetensors.index.fp16.json', '{"weight_map":{"a":"model.fp16-00002-of-00002.safetensors"}}')

  const models = await listModels(modelsDir)
  expect(models.map(({ name, dtype, problem }) => [name, dtype, problem])).toEqual([
    ['linked', 'unknown', 'it has no weights that Easel reads in transformer/: only config.json.'],
    ['mine', 'float16', undefined],
    ['piped', 'unknown', 'its model_index.json is not a file'],
    ['variant', 'float16', 'transformer/model.fp16-00002-of-00002.safetensors is missing'],
  ])
  expect(models[1]!.bytes).toBe(bytes)
})

test('models are listed with size, type and origin, and with what is missing in those that are not whole', async () => {
  await writeModel('owner/pulled', 'BF16')
  await writePullRecord(join(modelsDir, 'owner/pulled'), {
    origin: 'https://hub.example/owner/pulled@abc',
    pulled_at: new Date(0).toISOString(),
    files: { 'transformer/config.json': { size: 2, sha256: '' } },
  })
  await write('owner/small/model_index.json', index)
  await writePullRecord(join(modelsDir, 'owner/small'), {
    origin: 'https://hub.example/owner/small@abc',
    pulled_at: new Date(0).toISOString(),
    files: { 'model_index.json': { size: index.length, sha256: '' } },
  })
  await writeModel('mine', 'F16')
  await write('broken/model_index.json', index)
  await writeModel('sharded', 'F16')
  await rm(join(modelsDir, 'sharded/transformer/diffusion_pytorch_model.safetensors'))
  await write('sharded/transformer/diffusion_pytorch_model-00001-of-00002.safetensors', safetensors('F16'))
  await write(
    'sharded/transformer/diffusion_pytorch_model.safetensors.index.json',
    JSON.stringify({ weight_map: { a: 'diffusion_pytorch_model-00002-of-00002.safetensors' } }),
  )
  await write('single.safetensors', safetensors('F32'))
  await write('.pulls/owner--next/transformer/config.json', '{}')
  await write('notes/readme.txt', 'no model')

  const models = await listModels(modelsDir)
  expect(models.map(({ name, dtype, state }) => [name, dtype, state])).toEqual([
    ['broken', 'unknown', 'incomplete'],
    ['mine', 'float16', 'whole'],
    ['owner/next', 'unknown', 'partial'],
    ['owner/pulled', 'bfloat16', 'whole'],
    ['owner/small', 'unknown', 'parts'],
    ['sharded', 'float16', 'incomplete'],
    ['single.safetensors', 'float32', 'whole'],
  ])
  expect(models[0]?.problem).toMatch(/no folder transformer/)
  expect(models[2]?.problem).toMatch(/easel pull owner\/next/)
  expect(models[3]?.origin).toBe('https://hub.example/owner/pulled@abc')
  expect(models[5]?.problem).toBe('transformer/diffusion_pytorch_model-00002-of-00002.safetensors is missing')

  await write('owner/pulled/transformer/config.json', 'longer')
  const [changed] = (await listModels(modelsDir)).filter(({ name }) => name === 'owner/pulled')
  expect(changed?.problem).toBe('transformer/config.json has 6 bytes instead of 2')
})

test("a model is removed with what a pull has left of it, and its owner's folder with the last model in it", async () => {
  await writeModel('owner/pulled', 'BF16')
  await write('.pulls/owner--pulled/model_index.json', index)
  expect(await removeModel(modelsDir, 'owner/pulled')).toBeGreaterThan(index.length)
  expect(await readdir(modelsDir)).toEqual(['.pulls'])
  expect(await readdir(join(modelsDir, '.pulls'))).toEqual([])
})

test.each([
  ['../elsewhere', /Expected the name of a model/],
  ['.', /Expected the name of a model/],
  ['.pulls', /Expected the name of a model/],
  ['tiny-scenes', /comes with Easel and stays/],
  ['nothing', /There is no model "nothing" in .*; there are mine/],
])('%s is not removed', async (name, says) => {
  await writeModel('mine', 'F16')
  await expect(removeModel(modelsDir, name)).rejects.toThrow(says)
  expect(await readdir(modelsDir)).toEqual(['mine'])
})
