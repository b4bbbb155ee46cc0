/** What steps and decodings cost on this machine now. Measured once in a run of the benchmarks and used by all rows in virtual time. */
import { median, runRounds } from '../harness/rounds.ts'
import type { DeviceTimes } from '../simulator.ts'
import { openModel } from './bench-model.ts'
import { RawSession } from './raw-session.ts'

const measuredRows = [1, 2, 4, 8, 16, 32] as const
const measuredRounds = 12

let measured: Promise<DeviceTimes> | undefined

export function measureDeviceTimes(): Promise<DeviceTimes> {
  measured ??= measure()
  return measured
}

async function measure(): Promise<DeviceTimes> {
  const pipeline = await openModel()
  try {
    const raw = await RawSession.open(pipeline)
    const steps = measuredRows.map((rows): [string, () => Promise<number>] => [String(rows), () => raw.runSteps([rows])])
    const rounds = await runRounds<string>(measuredRounds, Object.fromEntries([...steps, ['decode', () => raw.runDecodes(1)]]))
    const medianOf = (slot: string): number => median(rounds.map((round) => round[slot] ?? Number.NaN))
    return { stepMs: Object.fromEntries(measuredRows.map((rows) => [rows, medianOf(String(rows))])), decodeMs: medianOf('decode') }
  } finally {
    await pipeline.close()
  }
}

/** For the controls: the cost of a row at each number of rows, relative to a row alone. */
export function describeRowCosts({ stepMs, decodeMs }: DeviceTimes): string {
  const alone = stepMs[1] ?? Number.NaN
  const costs = Object.entries(stepMs).map(([rows, ms]) => `${rows}: ${(ms / Number(rows) / alone).toFixed(2)}`)
  return `${costs.join(', ')} (a row alone ${alone.toFixed(1)} ms, decoding ${decodeMs.toFixed(1)} ms)`
}
