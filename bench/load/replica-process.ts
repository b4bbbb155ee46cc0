/** One replica, which answers each task with what its slot measured and ends when its parent closes the channel. */
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import { modelName, modelsDir } from './bench-model.ts'
import { runRequests } from './in-flight.ts'
import type { ReplicaTask } from './replicas.ts'

process.on('disconnect', () => process.exit(0))
const pipeline = await StableDiffusion3Pipeline.fromPretrained(modelName, { device: 'cpu', modelsDir, intraOpNumThreads: 1 })
await runRequests(pipeline, 1, 2, { numInferenceSteps: 2 })
process.on('message', ({ requests, params }: ReplicaTask) => {
  const run = async (): Promise<void> => {
    process.send?.({ slot: await runRequests(pipeline, 1, requests, params) })
  }
  void run()
})
process.send?.({})
