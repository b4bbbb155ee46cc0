import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { writeSafetensors } from '../../test/write-safetensors.ts'
import { findWeights, readCheckpoint } from './checkpoint.ts'

const root = mkdtempSync(join(tmpdir(), 'easel-checkpoint-'))
afterAll(() => rmSync(root, { recursive: true }))
let folders = 0
function newFolder(...files: string[]): string {
  const folder = join(root, `${folders++}`)
  mkdirSync(folder)
  for (const file of files) writeFileSync(join(folder, file), '{}')
  return folder
}
const f16 = (...shape: number[]) => ({ dtype: 'F16', shape, data: new Uint8Array(shape.reduce((a, b) => a * b, 2)) })

describe('findWeights', () => {
  it.each<[string, string[], string | undefined, string | undefined]>([
    ['a file of diffusers', ['diffusion_pytorch_model.safetensors'], undefined, 'diffusion_pytorch_model.safetensors'],
    ['a file of transformers', ['model.safetensors'], undefined, 'model.safetensors'],
    ['the file of transformers before its shards', ['model.safetensors', 'model.safetensors.index.json'], undefined, 'model.safetensors'],
    [
      'the shards of diffusers before its file',
      ['diffusion_pytorch_model.safetensors', 'diffusion_pytorch_model.safetensors.index.json'],
      undefined,
      'diffusion_pytorch_model.safetensors.index.json',
    ],
    ['the files without a variant first', ['model.fp16.safetensors', 'model.safetensors'], undefined, 'model.safetensors'],
    ['the requested variant', ['model.fp16.safetensors', 'model.safetensors'], 'fp16', 'model.fp16.safetensors'],
    ['an index of the variant', ['model.safetensors.index.fp16.json', 'model.safetensors'], 'fp16', 'model.safetensors.index.fp16.json'],
    ['the only variant there is', ['diffusion_pytorch_model.fp16.safetensors'], undefined, 'diffusion_pytorch_model.fp16.safetensors'],
    [
      'the only variant, in shards',
      ['model.safetensors.index.fp16.json', 'model.fp16-00001-of-00002.safetensors'],
      undefined,
      'model.safetensors.index.fp16.json',
    ],
    ['nothing where there are two variants', ['model.fp16.safetensors', 'model.bf16.safetensors'], undefined, undefined],
    ['the files without a variant where a part lacks the requested one', ['model.safetensors'], 'fp16', 'model.safetensors'],
    ['nothing in an empty folder', [], undefined, undefined],
  ])('finds %s', (_, files, variant, expected) => {
    const folder = newFolder(...files)
    expect(findWeights(folder, variant)).toBe(expected && join(folder, expected))
  })

  it('finds nothing where there is no folder', () => {
    expect(findWeights(join(root, 'absent'))).toBeUndefined()
  })
})

describe('readCheckpoint', () => {
  it('reads shards that diffusers wrote', async () => {
    const checkpoint = await readCheckpoint(findWeights(join(testModel('sd35-large-kind'), 'transformer'))!)
    expect(new Set([...checkpoint.tensors.values()].map(({ file }) => file)).size).toBe(10)
    expect(checkpoint.tensor('proj_out.weight', [64, 96])).toMatchObject({ dtype: 'BF16', length: 64 * 96 * 2 })
  })

  it('names the shard or the tensor that is missing', async () => {
    const folder = newFolder()
    writeSafetensors(join(folder, 'model-1.safetensors'), { a: f16(2) })
    const index = join(folder, 'model.safetensors.index.json')
    writeFileSync(index, JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-1.safetensors' } }))
    await expect(readCheckpoint(index)).rejects.toThrow(/model-1\.safetensors: expected tensor b to be there/)
    writeFileSync(index, JSON.stringify({ weight_map: { a: 'model-2.safetensors' } }))
    await expect(readCheckpoint(index)).rejects.toThrow(/model-2\.safetensors: .*no such file/)
  })

  it.each(['../model.safetensors', '/etc/passwd', 'sub/model.safetensors', 'model.bin', '', 3])('refuses the shard %j', async (shard) => {
    const folder = newFolder()
    const index = join(folder, 'model.safetensors.index.json')
    writeFileSync(index, JSON.stringify({ weight_map: { a: shard } }))
    await expect(readCheckpoint(index)).rejects.toThrow(/weight_map\.a/)
  })
})

describe('Checkpoint', () => {
  it('gives tensors of the requested shape, and errors that name the file, the tensor and what was expected and found', async () => {
    const file = join(newFolder(), 'model.safetensors')
    writeSafetensors(file, {
      a: f16(2, 3),
      b: { dtype: 'I8', shape: [4], data: new Uint8Array(4) },
      c: { dtype: 'X9', shape: [4], data: new Uint8Array(3) },
    })
    const checkpoint = await readCheckpoint(file)
    expect(checkpoint.tensor('a', [2, 3]).length).toBe(12)
    const float = 'F32, F16, BF16, F8_E4M3, F8_E5M2'
    expect(() => checkpoint.tensor('a', [3, 2])).toThrow(`${file}: expected tensor a to be [3, 2] of ${float}, got [2, 3] of F16`)
    expect(() => checkpoint.tensor('b', [4])).toThrow(`${file}: expected tensor b to be [4] of ${float}, got [4] of I8`)
    expect(() => checkpoint.tensor('d', [1])).toThrow(`${file}: expected tensor d to be [1] of ${float}, got no such tensor`)
  })
})
