/**
 * `npm run bench`: measures the rows of the table one after another, prints them, and last one line of JSON.
 *
 *   npm run bench                  every row, 20 pairs each
 *   npm run bench -- quick         the rows that take little time, 5 pairs each
 *   npm run bench -- row 4 7       these rows, 20 pairs each (after `quick`: 5)
 *   npm run bench -- soak 5        random kills for 5 minutes, with every job accounted for
 *   npm run bench -- scaling       throughput of 1, 2 and 3 workers
 *   npm run bench -- memory MODEL  memory of a worker's engine by size and requests in flight; default tiny-scenes
 *   npm run bench -- inputs        memory of an api that receives twenty large pictures at once
 *   npm run bench -- real-size     a model of real size, from its start to a picture; 32 GB on disk
 *   npm run bench -- gpu           WebGPU against the CPU, CUDA against torch; see gpu/README.md
 *
 * Ends with 0 when everything was measured, because a missed target is a result too. A row that could not be measured makes it end with 1.
 */
import { describeHardware, describeLoad, readCommit, toJsonLine, toReported, toTableLines } from './harness/report.ts'
import type { ReportedRow } from './harness/report.ts'
import type { Row } from './harness/row.ts'
import { runGpu } from './gpu/gpu.ts'
import { runRealSize } from './real-size/real-size.ts'
import { rows as allRows } from './rows/rows.ts'
import { runInputMemory } from './input-memory.ts'
import { runMemory } from './memory.ts'
import { runScaling } from './scaling.ts'
import { runSoak } from './soak.ts'

const fullPairs = 20
const quickPairs = 5
/** The rows whose slots take longest. `quick` leaves them out unless they are asked for by number. */
const notQuick = new Set([10, 15])

// A signal ends the process in the normal way, so that the servers and processes it has started are killed on the way out.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))

const words = process.argv.slice(2)
const command = words[0] ?? 'all'
if (command === 'soak') process.exitCode = await runSoak(Number(words[1] ?? 5))
else if (command === 'real-size') process.exitCode = await runRealSize(words[1])
else if (command === 'gpu') process.exitCode = await runGpu(words[1])
else if (command === 'memory') process.exitCode = await runMemory(words[1])
else if (command === 'inputs') process.exitCode = await runInputMemory()
else if (command === 'scaling') process.exitCode = await runScaling(quickPairs)
else {
  const quick = words.includes('quick')
  const chosen = chooseRows(
    words.filter((word) => word !== 'quick'),
    quick,
  )
  process.exitCode = await runRows(chosen, quick ? quickPairs : fullPairs)
}

function chooseRows(words: readonly string[], quick: boolean): readonly Row[] {
  if (words.length === 0) return allRows.filter(({ id }) => !quick || !notQuick.has(id))
  const [first, ...ids] = words
  const unknown = ids.find((id) => !allRows.some((row) => String(row.id) === id))
  if (first === 'row' && ids.length > 0 && unknown === undefined) return allRows.filter((row) => ids.includes(String(row.id)))
  const known = allRows.map(({ id }) => id).join(', ')
  throw new Error(
    `Expected nothing, quick, row and numbers of ${known}, soak MINUTES, scaling, inputs, memory MODEL, real-size FOLDER, or gpu FOLDER, got "${words.join(' ')}"`,
  )
}

async function runRows(rows: readonly Row[], pairs: number): Promise<number> {
  console.log(`Easel benchmarks, commit ${readCommit()}, ${describeHardware()}, ${describeLoad()}; ${pairs} pairs a row`)
  const reported: ReportedRow[] = []
  const startedAt = performance.now()
  let failed = false
  for (const row of rows) {
    const rowAt = performance.now()
    try {
      const result = await row.run({ pairs })
      const lines = toReported(row, result)
      reported.push(...lines)
      const seconds = Math.round((performance.now() - rowAt) / 1000)
      for (const { id, name, value, quartiles, target, met } of lines)
        console.log(`${id}. ${name}: ${value} (${quartiles.join(' – ')}), target ${target}: ${met ? 'met' : 'MISSED'}`)
      console.log(`   ${row.controls}`)
      for (const [name, value] of Object.entries(result.controls)) console.log(`   ${name}: ${value}`)
      console.log(`   ${seconds} s, ${describeLoad()}\n`)
    } catch (error) {
      failed = true
      console.error(`${row.id}. could not be measured:`, error)
    }
  }
  console.log(toTableLines(reported).join('\n'))
  console.log(`\n${Math.round((performance.now() - startedAt) / 1000)} s, ${describeLoad()}`)
  console.log(toJsonLine(reported))
  return failed ? 1 : 0
}
