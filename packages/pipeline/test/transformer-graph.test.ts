/** The batcher and a transformer's graph together. */
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { OnnxSession } from '../src/models/onnx-session.ts'
import { Sd3Transformer } from '../src/models/sd3-transformer.ts'
import { StepBatcher } from '../src/runtime/step-batcher.ts'
import { Tensor } from '../src/tensor/tensor.ts'

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.onnx`, import.meta.url))

describe('a transformer graph with one timestep for the whole batch, in float16', () => {
  it('gives each row of a mixed batch its own timestep', async () => {
    const session = await OnnxSession.load(fixture('transformer-scalar-timestep'))
    const config = {
      in_channels: 16,
      patch_size: 2,
      sample_size: 2,
      pos_embed_max_size: 4,
      joint_attention_dim: 8,
      pooled_projection_dim: 8,
    }
    const transformer = new Sd3Transformer(config, session)
    const ones = (dims: number[]) => new Tensor(new Float32Array(dims.reduce((a, b) => a * b)).fill(1), dims, 'float16')
    const row = { hiddenStates: ones([1, 16, 2, 2]), encoderHiddenStates: ones([1, 4, 8]), pooledProjections: ones([1, 8]) }
    const batcher = new StepBatcher(transformer)
    const at = (...timesteps: number[]) => batcher.forward(timesteps.map((timestep) => ({ ...row, timestep })))
    const mixed = await at(1000, 987.38, 3)
    expect(mixed.dtype).toBe('float16')
    expect([mixed.data[0], mixed.data[64], mixed.data[128]]).toEqual([1000, 987.5, 3])
    const same = await at(7, 7, 7)
    expect(same.dims).toEqual([3, 16, 2, 2])
    expect(same.data.every((value) => value === 7)).toBe(true)
    await transformer.release()
  })
})
