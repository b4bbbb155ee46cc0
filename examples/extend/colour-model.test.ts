import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadPipeline, RequestScopedPipeline } from '@easel/pipeline'
import { ColourPipeline, registerColourPipeline } from './colour-model.ts'
import type { ColourParams } from './colour-model.ts'

const colours = { red: [1, -1, -1], green: [-1, 1, -1], blue: [-1, -1, 1], white: [1, 1, 1], black: [-1, -1, -1] }
let folder: string
let pipe: ColourPipeline

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-colours-'))
  const words = Object.keys(colours)
  await writeFile(join(folder, 'model_index.json'), JSON.stringify({ _class_name: 'ColourPipeline' }))
  await writeFile(join(folder, 'config.json'), JSON.stringify({ words }))
  // (3, words): a row for each channel.
  const values = [0, 1, 2].flatMap((channel) => Object.values(colours).map((colour) => colour[channel] ?? 0))
  await writeFile(join(folder, 'model.safetensors'), toSafetensors('colours.weight', [3, words.length], values))
  registerColourPipeline()
  pipe = (await loadPipeline(folder)) as ColourPipeline
})
afterAll(async () => {
  await pipe?.close()
  await rm(folder, { recursive: true, force: true })
})

/** A file of one float32 tensor: the length of the header, the header, the values. */
function toSafetensors(name: string, shape: number[], values: number[]): Buffer {
  const header = Buffer.from(JSON.stringify({ [name]: { dtype: 'F32', shape, data_offsets: [0, values.length * 4] } }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, Buffer.from(Float32Array.from(values).buffer)])
}

/** Draws a picture; returns the colours in it. */
async function draw(
  of: { generate(params: ColourParams): Promise<Awaited<ReturnType<ColourPipeline['generate']>>> },
  params: ColourParams,
): Promise<string[]> {
  const { data } = (await of.generate(params)).images[0] ?? { data: new Uint8Array() }
  return [...new Set(Array.from({ length: data.length / 3 }, (_, i) => [...data.subarray(i * 3, i * 3 + 3)].join()))]
}

test.for([
  ['a red square', '255,0,0'],
  ['Blue.', '0,0,255'],
  ['white and black', '128,128,128'],
  ['red, red and blue', '170,0,85'],
] as const)('the prompt “%s” is drawn in its colours', async ([prompt, colour]) => {
  const drawn = await draw(pipe, { prompt, seed: 7 })
  expect(drawn).toHaveLength(1)
  const expected = colour.split(',').map(Number)
  drawn[0]?.split(',').forEach((value, i) => expect(Math.abs(Number(value) - (expected[i] ?? 0))).toBeLessThanOrEqual(1))
})

test('many requests on one model share its steps, and each gets what it would get alone', async () => {
  const scoped = new RequestScopedPipeline(pipe)
  const requests = Array.from({ length: 24 }, (_, i) => ({
    prompt: Object.keys(colours)[i % 5] ?? '',
    seed: i,
    numInferenceSteps: 3 + (i % 7),
  }))
  const alone: string[][] = []
  for (const request of requests) alone.push(await draw(pipe, request))
  const before = pipe.runtime.stats
  expect(await Promise.all(requests.map(async (request) => await draw(scoped, request)))).toEqual(alone)
  const { steps, rows } = pipe.runtime.stats
  expect(rows - before.rows).toBe(requests.reduce((sum, { numInferenceSteps }) => sum + numInferenceSteps, 0))
  expect(steps - before.steps).toBeLessThan(rows - before.rows)
})

test('a prompt without a word that the model knows is refused, and so is a folder whose files do not fit together', async () => {
  await expect(pipe.generate({ prompt: 'a boat' })).rejects.toThrow(
    'Expected a prompt with one of the words red, green, blue, white, black',
  )
  await writeFile(join(folder, 'config.json'), JSON.stringify({ words: ['red'] }))
  await expect(ColourPipeline.fromPretrained(folder)).rejects.toThrow(/tensor colours\.weight to be \[3, 1\].*got \[3, 5\]/)
})
