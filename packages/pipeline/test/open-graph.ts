/** Opens graphs written over the parts of the small random models in test/models, for the tests of graphs. */
import { readFileSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findWeights, readCheckpoint } from '../src/graphs/checkpoint.ts'
import type { GraphOptions } from '../src/graphs/layers.ts'
import { writeGraph } from '../src/graphs/write-graph.ts'
import type { GraphName } from '../src/graphs/write-graph.ts'
import { OnnxSession } from '../src/models/onnx-session.ts'
import type { Feed } from '../src/models/onnx-session.ts'
import { timestepChannels, writeTimestepProj } from '../src/models/timestep-proj.ts'

const graphThreads = 2
export const kinds = ['sd3-medium-kind', 'sd35-large-kind', 'sd35-medium-kind'] as const
export const testModel = (name: string) => fileURLToPath(new URL(`models/${name}`, import.meta.url))

/** `model`: the name of one of these models, or the path of another one. */
export async function openGraph(
  model: string,
  name: GraphName,
  options: GraphOptions,
): Promise<{ config: Record<string, number>; session: OnnxSession }> {
  const folder = join(isAbsolute(model) ? model : testModel(model), name.startsWith('vae') ? 'vae' : name)
  const configFile = join(folder, 'config.json')
  const bytes = await writeGraph(name, configFile, await readCheckpoint(findWeights(folder)!), { threads: graphThreads, ...options })
  const session = await OnnxSession.load(
    { name: folder, bytes, weights: options.weights, betweenRuns: 'open' },
    { intraOpNumThreads: options.threads ?? graphThreads },
  )
  return { config: JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, number>, session }
}

/** (timesteps, timestepChannels) */
export function timestepFeed(timesteps: readonly number[]): Feed {
  const data = new Float32Array(timesteps.length * timestepChannels)
  for (const [row, timestep] of timesteps.entries()) writeTimestepProj(timestep, data.subarray(row * timestepChannels))
  return { data, dims: [timesteps.length, timestepChannels] }
}
