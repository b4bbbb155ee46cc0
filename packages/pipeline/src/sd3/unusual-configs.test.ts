/** Configurations that no published model has, with weights that agree with them. */
import { execFileSync } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { rewritePart } from '../../test/rewrite-part.ts'
import type { WrittenTensor } from '../../test/write-safetensors.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-unusual-'))
  await cp(testModel('sd35-medium-kind'), folder, { recursive: true })
})
afterEach(() => rm(folder, { recursive: true }))

async function configure(part: string, change: Record<string, unknown>): Promise<void> {
  const file = join(folder, part, 'config.json')
  await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), ...change }))
}
async function messageOfLoading(): Promise<string> {
  try {
    await (await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })).close()
  } catch (error) {
    return (error as Error).message
  }
  return 'loaded'
}
/** The tensor with another length of one axis, filled from its beginning over and over. */
function withLength({ dtype, shape, data }: WrittenTensor, axis: number, length: number): WrittenTensor {
  const bytes = (data.length / (shape[axis] as number)) * length
  return { dtype, shape: shape.with(axis, length), data: Uint8Array.from({ length: bytes }, (_, at) => data[at % data.length] as number) }
}

it.each([
  [
    'transformer',
    { out_channels: 8 },
    ['proj_out.weight', 'proj_out.bias'],
    0,
    32,
    '16, the same as in_channels, because a step changes every channel, got 8',
  ],
  ['vae', { out_channels: 4 }, ['decoder.conv_out.weight', 'decoder.conv_out.bias'], 0, 4, '3, for red, green and blue, got 4'],
  ['vae', { in_channels: 1 }, ['encoder.conv_in.weight'], 1, 1, '3, for red, green and blue, got 1'],
] as const)('a %s with %j is refused when it is loaded, not by each request', async (part, change, names, axis, length, sentence) => {
  await rewritePart(join(folder, part), (tensors) => ({
    ...tensors,
    ...Object.fromEntries(names.map((name) => [name, withLength(tensors[name]!, axis, length)])),
  }))
  await configure(part, change)
  const [field] = Object.keys(change)
  expect(await messageOfLoading()).toBe(`${join(folder, part, 'config.json')}: expected ${field} to be ${sentence}`)
})

it('a table of positions that has to be computed may only have a limited size', async () => {
  await rewritePart(join(folder, 'transformer'), (tensors) =>
    Object.fromEntries(Object.entries(tensors).filter(([name]) => name !== 'pos_embed.pos_embed')),
  )
  expect(await messageOfLoading()).toBe('loaded')
  await configure('transformer', { pos_embed_max_size: 1e9 })
  expect(await messageOfLoading()).toMatch(/expected pos_embed_max_size of its config\.json to be at most 4096, .*got 1000000000/)
})

it('other names of an activation mean the same activation', async () => {
  await configure('text_encoder_2', { hidden_act: 'gelu_python' })
  await configure('vae', { act_fn: 'swish' })
  const draw = async (model: string) => {
    const pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu' })
    const { images } = await pipe.generate({ prompt: 'a red boat', width: 32, height: 32, numInferenceSteps: 1, seed: 3 })
    await pipe.close()
    return Buffer.from(images[0]!.data)
  }
  expect((await draw(folder)).equals(await draw(testModel('sd35-medium-kind')))).toBe(true)
})

it('a graph that is a pipe is refused with its path', async () => {
  const pipe = join(folder, 'transformer', 'model.onnx')
  execFileSync('mkfifo', [pipe])
  expect(await messageOfLoading()).toBe(`Expected ${pipe} to load on cpu, got: something that is not a file`)
})
