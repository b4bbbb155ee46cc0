/** Opens graphs written over the parts of the small random models in test/models, for the tests of graphs. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findWeights, readCheckpoint } from '../src/graphs/checkpoint.ts'
import type { GraphOptions } from '../src/graphs/layers.ts'
import { writeGraph } from '../src/graphs/write-graph.ts'
import type { GraphName } from '../src/graphs/write-graph.ts'
import { OnnxSession } from '../src/models/onnx-session.ts'
import type { Feed } from '../src/models/onnx-session.ts'
import { TIMESTEP_CHANNELS, writeTimestepProj } from '../src/models/timestep-proj.ts'

const graphThreads = 2
export const KINDS = ['sd3-medium-kind', 'sd35-large-kind', 'sd35-medium-kind'] as const
export const testModel = (name: string) => fileURLToPath(new URL(`models/${name}`, import.meta.url))

export async function openGraph(
  model: string,
  name: GraphName,
  options: GraphOptions,
): Promise<{ config: Record<string, number>; session: OnnxSession }> {
  const folder = join(testModel(model), name.startsWith('vae') ? 'vae' : name)
  const configFile = join(folder, 'config.json')
  const bytes = await writeGraph(name, configFile, await readCheckpoint(findWeights(folder)!), { threads: graphThreads, ...options })
  const session = await OnnxSession.load(
    { name: folder, bytes, weights: options.weights, betweenRuns: 'open' },
    { intraOpNumThreads: options.threads ?? graphThreads },
  )
  return { config: JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, number>, session }
}

/** (timesteps, TIMESTEP_CHANNELS) */
export function timestepFeed(timesteps: readonly number[]): Feed {
  const data = new Float32Array(timesteps.length * TIMESTEP_CHANNELS)
  for (const [row, timestep] of timesteps.entries()) writeTimestepProj(timestep, data.subarray(row * TIMESTEP_CHANNELS))
  return { data, dims: [timesteps.length, TIMESTEP_CHANNELS] }
}
