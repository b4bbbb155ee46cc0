import { mkdtempSync, rmSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kinds, openGraph, testModel, timestepFeed } from '../../test/open-graph.ts'
import { rewritePart } from '../../test/rewrite-part.ts'
import { toScaledFloat8 } from '../../test/write-float8.ts'
import type { Feed } from '../models/onnx-session.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import type { GraphOptions } from './layers.ts'
import { operatorChoices } from './operator-choices.ts'

const rowCounts = 12
const take = ({ data, dims: [rows = 1, ...dims] }: Feed, wanted: readonly number[]): Feed => {
  const length = data.length / rows
  const taken = new (data.constructor as Float32ArrayConstructor)(wanted.length * length)
  for (const [at, row] of wanted.entries()) taken.set(data.subarray(row * length, (row + 1) * length), at * length)
  return { data: taken, dims: [wanted.length, ...dims] }
}
const batches = [
  [0, 1],
  [5, 3, 7],
  [11, 2, 9, 0, 4],
  Array.from({ length: rowCounts }, (_, row) => row),
  Array.from({ length: rowCounts }, (_, row) => rowCounts - 1 - row),
]

/** The rows of each batch that differ in any bit from what the row gives alone. */
async function differingRows(run: (rows: readonly number[]) => Promise<Float32Array>): Promise<string[]> {
  const alone: Uint8Array[] = []
  const bytes = (values: Float32Array) => new Uint8Array(values.slice().buffer)
  for (let row = 0; row < rowCounts; row++) alone.push(bytes(await run([row])))
  const differing: string[] = []
  for (const batch of batches) {
    const together = await run(batch)
    const length = together.length / batch.length
    for (const [at, row] of batch.entries())
      if (!Buffer.from(bytes(together.subarray(at * length, (at + 1) * length))).equals(alone[row] as Uint8Array))
        differing.push(`row ${row} of [${batch.join(', ')}]`)
  }
  return differing
}

/** The same models with their matrices in scaled float8. */
const float8Root = mkdtempSync(join(tmpdir(), 'easel-exactness-'))
beforeAll(async () => {
  for (const kind of kinds) {
    await cp(testModel(kind), join(float8Root, kind), { recursive: true })
    for (const part of ['transformer', ...(kind === 'sd35-large-kind' ? ['text_encoder', 'text_encoder_2', 'text_encoder_3'] : [])])
      await rewritePart(join(float8Root, kind, part), (tensors) => toScaledFloat8(tensors).stored)
  }
})
afterAll(() => rmSync(float8Root, { recursive: true }))

describe.each([
  ['packed', 2, 'as it is'],
  ['mapped', 1, 'as it is'],
  ['mapped', 2, 'as it is'],
  ['mapped', 5, 'as it is'],
  ['packed', 2, 'in scaled float8'],
  ['mapped', 2, 'in scaled float8'],
] as const)('with %s weights, %i threads and the model %s, a row of a batch is bit for bit the row alone', (weights, threads, stored) => {
  const modelOf = (kind: string) => (stored === 'as it is' ? kind : join(float8Root, kind))
  const options: GraphOptions = { operators: operatorChoices.cpu, computeType: 'float32', weights, threads }

  it.each([
    ['sd3-medium-kind', 8, 8],
    ['sd35-large-kind', 10, 6],
    ['sd35-medium-kind', 16, 12],
    // A picture of a single token.
    ['sd35-medium-kind', 2, 2],
  ] as const)('in the transformer of %s at %i × %i, whatever layers the others skip', async (kind, height, width) => {
    const { config, session } = await openGraph(modelOf(kind), 'transformer', options)
    const noise = (seed: number, ...dims: number[]): Feed => randn(dims, new Generator(seed))
    const mask = Float32Array.from({ length: rowCounts * config['num_layers']! }, (_, at) => (at % 5 === 0 ? 0 : 1))
    const feeds = {
      hidden_states: noise(1, rowCounts, 16, height, width),
      encoder_hidden_states: noise(2, rowCounts, 21, config['joint_attention_dim']!),
      pooled_projections: noise(3, rowCounts, config['pooled_projection_dim']!),
      timestep_proj: timestepFeed(Array.from({ length: rowCounts }, (_, row) => 1000 / (1 + row * 0.37))),
      layer_mask: { data: mask, dims: [rowCounts, config['num_layers']!] },
    }
    const run = async (rows: readonly number[]) => {
      const taken = Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, take(feed, rows)]))
      return (await session.run(taken, ['out_hidden_states']))['out_hidden_states']!.data
    }
    expect(await differingRows(run)).toEqual([])
    await session.release()
  })

  it.each([
    ['text_encoder', 20],
    ['text_encoder_2', 20],
    ['text_encoder_3', 20],
    ['text_encoder_3', 1],
  ] as const)('in %s with %i tokens', async (part, tokens) => {
    const { session } = await openGraph(modelOf('sd35-large-kind'), part, options)
    const ids = { data: Int32Array.from({ length: rowCounts * tokens }, (_, at) => (at * 37) % 150), dims: [rowCounts, tokens] }
    const output = part === 'text_encoder_3' ? 'last_hidden_state' : 'text_embeds'
    const run = async (rows: readonly number[]) => (await session.run({ input_ids: take(ids, rows) }, [output]))[output]!.data
    expect(await differingRows(run)).toEqual([])
    await session.release()
  })
})
