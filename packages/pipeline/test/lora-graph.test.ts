import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { testModel, timestepFeed } from './open-graph.ts'
import { findWeights, readCheckpoint } from '../src/graphs/checkpoint.ts'
import { operatorChoices } from '../src/graphs/operator-choices.ts'
import { writeGraph } from '../src/graphs/write-graph.ts'
import { loraGroup } from '../src/tensor/lora.ts'
import type { LinearShapes, LoraLayer, LoraLayers } from '../src/tensor/lora.ts'
import { Generator, randn } from '../src/tensor/random-normal.ts'
import { LoraGraph } from '../src/models/lora-graph.ts'
import type { Feed } from '../src/models/onnx-session.ts'

function randomLora(shapes: LinearShapes, rank: number, seed: number, only = /./): LoraLayers {
  const generator = new Generator(seed)
  const layers = new Map<string, LoraLayer>()
  for (const [name, [to, from]] of shapes) {
    if (!only.test(name)) continue
    const groups = Math.ceil(rank / loraGroup)
    const fill = (length: number, size: number) => randn([length], generator).data.map((value) => value * size)
    const up = fill(groups * loraGroup * to, 0.05)
    // Values beyond the rank are zero.
    up.fill(0, rank * to)
    layers.set(name, { groups, down: fill(groups * from * loraGroup, 1 / Math.sqrt(from)), up })
  }
  return layers
}

async function open(kind: string, threads: number) {
  const folder = join(testModel(kind), 'transformer')
  const configFile = join(folder, 'config.json')
  const checkpoint = await readCheckpoint(findWeights(folder)!)
  const options = { operators: operatorChoices.cpu, computeType: 'float32', weights: 'mapped', threads } as const
  const written: string[][] = []
  const source = {
    shapes: checkpoint.linears,
    shiftFirst: false,
    async write(loraLinears: ReadonlySet<string>) {
      written.push([...loraLinears])
      const bytes = await writeGraph('transformer', configFile, checkpoint, { ...options, loraLinears })
      return { name: folder, bytes, weights: options.weights, betweenRuns: 'open' as const }
    },
  }
  const config = JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, number>
  return { config, source, written, graph: new LoraGraph(source, { intraOpNumThreads: threads }) }
}

const noise = (seed: number, ...dims: number[]) => randn(dims, new Generator(seed))

function rowFeeds(config: Record<string, number>, rows: readonly number[]): Record<string, Feed> {
  const each = (seed: number, ...dims: number[]): Feed => {
    const parts = rows.map((row) => noise(seed * 100 + row, ...dims).data)
    return { data: Float32Array.from(parts.flatMap((part) => [...part])), dims: [rows.length, ...dims] }
  }
  return {
    hidden_states: each(1, 16, 8, 12),
    encoder_hidden_states: each(2, 20, config['joint_attention_dim']!),
    pooled_projections: each(3, config['pooled_projection_dim']!),
    timestep_proj: timestepFeed(rows.map((row) => 1000 / (1 + row))),
    layer_mask: { data: new Float32Array(rows.length * config['num_layers']!).fill(1), dims: [rows.length, config['num_layers']!] },
  }
}

describe.each([
  ['sd35-medium-kind', 1],
  ['sd35-medium-kind', 5],
  ['sd35-large-kind', 2],
])('rows of %s (threads: %i)', (kind, threads) => {
  it('are bit for bit as alone, whatever LoRAs the other rows have', async () => {
    const { config, graph, source } = await open(kind, threads)
    const of = (rank: number, seed: number, only?: RegExp) => randomLora(source.shapes, rank, seed, only)
    const everything = of(40, 1)
    const added = [everything, of(4, 2, /attn/), of(16, 3), everything, of(9, 4, /norm1|ff|proj_out/), of(130, 5, /to_[qkv]/)]
    const run = async (rows: readonly number[]) => {
      const { session, feeds } = await graph.prepare(rows.map((row) => added[row]!))
      const outputs = await session.run({ ...rowFeeds(config, rows), ...feeds }, ['out_hidden_states'])
      return Buffer.from(outputs['out_hidden_states']!.data.slice().buffer)
    }
    const alone: Buffer[] = []
    for (const row of added.keys()) alone.push(await run([row]))
    const batches = [
      [0, 3],
      [1, 4],
      [5, 1, 2],
      [0, 1, 2, 3, 4, 5],
      [4, 3, 2, 1, 0, 5, 1],
    ]
    for (const batch of batches) {
      const together = await run(batch)
      const length = together.length / batch.length
      const differing = batch.filter((row, at) => !together.subarray(at * length, (at + 1) * length).equals(alone[row]!))
      expect(differing).toEqual([])
    }
    expect(alone[1]!.equals(alone[2]!)).toBe(false)
    await graph.release()
  })
})

it('the graph is written for the layers that LoRAs change, again for more layers, but not for fewer', async () => {
  const { graph, source, written } = await open('sd3-medium-kind', 1)
  const queries = randomLora(source.shapes, 4, 1, /to_q/)
  const keys = randomLora(source.shapes, 4, 2, /to_k/)
  await graph.prepare([queries])
  await graph.prepare([queries, queries])
  await graph.prepare([keys])
  await graph.prepare([queries])
  expect(written).toEqual([[...queries.keys()], [...queries.keys(), ...keys.keys()]])
  await graph.release()
})
