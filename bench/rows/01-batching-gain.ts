/**
 * Row 1: what eight requests in flight gain over one at a time, compared with what the hardware gains.
 *
 * Left: time of requests run one at a time over the time of the same requests run eight at a time, through the engine.
 * Right: the same ratio of a plain `session.run` loop that runs exactly the row counts the engine ran in the two slots of the same round.
 * 1.00 means that the engine passes on everything that batching gives on this machine. Requests end as latents: decoding is not batched on
 * either side; row 14 includes it. The engine has learnt its knee before the first round.
 * Control: replicas. Two processes with one thread each, one request at a time, are the other way to use two cores; batching has to be
 * judged against that too.
 */
import { availableParallelism } from 'node:os'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { rowRate, runRequests, runSteadily } from '../load/in-flight.ts'
import type { SlotResult } from '../load/in-flight.ts'
import { RawSession } from '../load/raw-session.ts'
import { startReplicas } from '../load/replicas.ts'

const inFlight = 8
const params = { numInferenceSteps: 2 }

export const row: Row = {
  id: 1,
  claims: [{ name: 'gain of 8 in flight over 1 at a time / gain of raw session.run at the same rows', target: '>= 0.95' }],
  controls: 'Control: as many replicas of the process as cores, one thread and one request each.',
  async run({ pairs }) {
    const pipeline = await openModel()
    const replicas = await startReplicas(availableParallelism())
    try {
      const raw = await RawSession.open(pipeline)
      await runSteadily(pipeline, inFlight, { measureMs: 2000 })
      const gains: number[] = []
      let alone: SlotResult | undefined
      let together: SlotResult | undefined
      const rounds = await runRounds(pairs, {
        alone: async () => {
          alone = await runRequests(pipeline, 1, inFlight, params)
          return alone.ms / (await raw.runSteps(alone.steps))
        },
        together: async () => {
          together = await runRequests(pipeline, inFlight, inFlight, params)
          gains.push((alone?.ms ?? Number.NaN) / together.ms)
          return together.ms / (await raw.runSteps(together.steps))
        },
        // The replicas' rows per second, divided by those of the engine with one request as last measured.
        replicas: async () => rowRate(await replicas.runRequests(inFlight, params)) / rowRate(alone as SlotResult),
      })
      return {
        measured: [toMeasured(rounds.map((round) => round.alone / round.together))],
        controls: {
          'gain of 8 in flight': `${median(gains).toFixed(2)}×`,
          'gain of replicas': `${median(rounds.map(({ replicas }) => replicas)).toFixed(2)}×`,
          'rows a step': `${((together?.rows ?? 0) / (together?.steps.length ?? 1)).toFixed(1)}, alone ${((alone?.rows ?? 0) / (alone?.steps.length ?? 1)).toFixed(1)}`,
        },
      }
    } finally {
      await replicas.close()
      await pipeline.close()
    }
  },
}
