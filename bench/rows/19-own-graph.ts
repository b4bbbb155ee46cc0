/**
 * Row 19: a graph written by Easel is no slower than an exporter's of the same model, needs less memory, and is written quickly.
 *
 * Time: tiny-scenes over its weights against the export of the same weights, raw session.run at 256 px with the same inputs, 1, 2, 8 and 16 rows
 * in turn; the ratio of a round is the median of those of its row counts. Memory: a transformer of middle size with random weights at 1024 px, our
 * graph against our graph of plain operators; what a process takes beside its mapped weights. Writing: the graph of 3.5 large's transformer,
 * including reading the headers of its weights.
 * Control: milliseconds a row of each graph; MiB of each side.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import { findWeights, readCheckpoint } from '../../packages/pipeline/src/graphs/checkpoint.ts'
import { operatorChoices } from '../../packages/pipeline/src/graphs/operator-choices.ts'
import { writeGraph } from '../../packages/pipeline/src/graphs/write-graph.ts'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { RawSession } from '../load/raw-session.ts'
import { prepareRandomModel, prepareShapes } from '../real-size/random-model.ts'
import { runForward } from '../real-size/run-forward.ts'

const exported = fileURLToPath(new URL('../../packages/pipeline/test/models/tiny-scenes-onnx', import.meta.url))
const side = 256
const rowCounts = [1, 2, 8, 16]
const largeSide = 1024
const tokens = 333

export const row: Row = {
  id: 19,
  claims: [
    { name: 'speed of our graph / of the exported one, 256 px, median of 1, 2, 8 and 16 rows', target: '>= 1.05' },
    { name: 'memory of a step at 1024 px, fused attention / plain operators', target: '<= 0.6' },
    { name: 'ms to write the graph of 3.5 large', target: '<= 200' },
  ],
  controls: 'Control: milliseconds a row; MiB of each side.',
  async run({ pairs }) {
    const folder = await mkdtemp(join(tmpdir(), 'easel-bench-models-'))
    const own = await openModel()
    const export_ = await StableDiffusion3Pipeline.fromPretrained(exported, { device: 'cpu' })
    try {
      const sides = { own: await RawSession.open(own, side), exported: await RawSession.open(export_, side) }
      const speeds = new Map(rowCounts.map((rows) => [rows, [] as number[]]))
      const slots: Record<string, () => Promise<number>> = {}
      for (const rows of rowCounts)
        for (const name of ['own', 'exported'] as const) slots[`${name} ${rows}`] = () => sides[name].runSteps([rows, rows])
      const rounds = await runRounds(pairs, slots)
      const speed = rounds.map((round) =>
        median(
          rowCounts.map((rows) => {
            const ratio = (round[`exported ${rows}`] as number) / (round[`own ${rows}`] as number)
            speeds.get(rows)?.push(ratio)
            return ratio
          }),
        ),
      )
      const model = await prepareRandomModel(folder, 'middle-transformer')
      const memoryOf = async (operators: 'chosen' | 'plain'): Promise<number> =>
        (await runForward({ folder: model, weights: 'mapped', operators, side: largeSide, rows: 1, tokens, runs: 0 })).ownMib
      // It is the same every time.
      const [fusedMib, plainMib] = [await memoryOf('chosen'), await memoryOf('plain')]
      const large = join(await prepareShapes(folder, 'sd35-large-transformer'), 'transformer')
      const writing: number[] = []
      for (let round = 0; round < pairs; round++) writing.push(await timeToWrite(large))
      return {
        measured: [toMeasured(speed), toMeasured([fusedMib / plainMib]), toMeasured(writing)],
        controls: {
          ...Object.fromEntries([...speeds].map(([rows, ratios]) => [`speed at ${rows} rows`, median(ratios).toFixed(3)])),
          fused: `${fusedMib.toFixed(0)} MiB`,
          plain: `${plainMib.toFixed(0)} MiB`,
        },
      }
    } finally {
      await own.close()
      await export_.close()
      await rm(folder, { recursive: true })
    }
  },
}

/** Milliseconds that it takes to write the graph for a transformer's folder, from opening its file on. */
async function timeToWrite(folder: string): Promise<number> {
  const startedAt = performance.now()
  const checkpoint = await readCheckpoint(findWeights(folder) ?? '')
  const options = { operators: operatorChoices.cpu, computeType: 'float32', weights: 'packed' } as const
  await writeGraph('transformer', join(folder, 'config.json'), checkpoint, options)
  return performance.now() - startedAt
}
