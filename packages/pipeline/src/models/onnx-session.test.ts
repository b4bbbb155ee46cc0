import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OnnxSession, ClosedError } from './onnx-session.ts'
import { Sd3Transformer } from './sd3-transformer.ts'
import { Tensor } from '../tensor/tensor.ts'

const fixture = (name: string) => fileURLToPath(new URL(`../../test/fixtures/${name}.onnx`, import.meta.url))
const floats = (values: number[], dims = [values.length]) => new Tensor(Float32Array.from(values), dims)

describe('a float16 graph', () => {
  let session: OnnxSession
  beforeAll(async () => {
    session = await OnnxSession.load(fixture('float16-scale'))
  })
  afterAll(() => session.release())

  it('takes float32 feeds and gives float16 tensors', async () => {
    const { y } = await session.run({ x: floats([1, 0.1, -2048.7]), scale: floats([2]) }, ['y'])
    expect(y?.dtype).toBe('float16')
    expect([...(y?.data ?? [])]).toEqual([2, Math.f16round(2 * Math.f16round(0.1)), 2 * Math.f16round(-2048.7)])
  })

  it('gives the same through an output buffer of known shape', async () => {
    const feeds = { x: floats([1, 3]), scale: floats([0.5], []) }
    const { y } = await session.run(feeds, ['y'], { y: [2] })
    expect(y).toEqual(new Tensor(Float32Array.of(0.5, 1.5), [2], 'float16'))
  })

  it('leaves Float16Array to the rest of the process', () => {
    expect(typeof (globalThis as { Float16Array?: unknown }).Float16Array).toBe('function')
  })
})

describe('feeds', () => {
  let session: OnnxSession
  beforeAll(async () => {
    session = await OnnxSession.load(fixture('casts'))
  })
  afterAll(() => session.release())

  it('are cast to the integer types and the rank the graph declares', async () => {
    expect(session.inputs.get('ids')?.type).toBe('int32')
    expect(session.inputs.get('timestep')).toMatchObject({ type: 'int64', shape: [] })
    const ids = { data: Int32Array.of(1, 2, 3), dims: [3] }
    const { y } = await session.run({ ids, timestep: floats([987.4]) }, ['y'])
    expect([...(y?.data ?? [])]).toEqual([988, 989, 990])
  })

  it('may repeat one value for a scalar, but not differ', async () => {
    const ids = { data: Int32Array.of(1, 2), dims: [2] }
    const { y } = await session.run({ ids, timestep: floats([5, 5]) }, ['y'])
    expect([...(y?.data ?? [])]).toEqual([6, 7])
    await expect(session.run({ ids, timestep: floats([5, 6]) }, ['y'])).rejects.toThrow(
      /Expected input "timestep".*shape \[\], got \[2\] of different values/,
    )
  })

  it('of an unknown name, a wrong rank or an impossible type are refused by name', async () => {
    const ids = { data: Int32Array.of(1), dims: [1] }
    await expect(session.run({ ids, step: floats([1]) }, ['y'])).rejects.toThrow(/\(ids, timestep\), got "step"/)
    await expect(session.run({ ids: { ...ids, dims: [1, 1] }, timestep: floats([1]) }, ['y'])).rejects.toThrow(/"ids".*\[n\], got \[1, 1\]/)
    const bool = await OnnxSession.load(fixture('bool-input'))
    await expect(bool.run({ mask: floats([1]) }, ['y'])).rejects.toThrow(/"mask".*to be float32, float16, int64 or int32, got bool/)
    await bool.release()
  })
})

describe('a session', () => {
  it('lets the event loop turn before every native run', async () => {
    const session = await OnnxSession.load(fixture('float16-scale'))
    let turned = false
    setImmediate(() => (turned = true))
    await session.run({ x: floats([1]), scale: floats([2]) }, ['y'])
    expect(turned).toBe(true)
    await session.release()
  })

  it('makes one native run a turn of the event loop, however many are asked for at once', async () => {
    const session = await OnnxSession.load(fixture('float16-scale'))
    let turn = 0
    let ticking = true
    const tick = () => {
      turn++
      if (ticking) setImmediate(tick)
    }
    setImmediate(tick)
    const runs = Array.from({ length: 5 }, () => session.run({ x: floats([1]), scale: floats([2]) }, ['y']).then(() => turn))
    expect(new Set(await Promise.all(runs)).size).toBe(5)
    ticking = false
    await session.release()
  })

  it('finishes the run that has begun, and runs nothing after release', async () => {
    const session = await OnnxSession.load(fixture('float16-scale'))
    const feeds = { x: floats([1]), scale: floats([2]) }
    const begun = session.run(feeds, ['y'])
    await session.release()
    await expect(begun).resolves.toHaveProperty('y')
    await expect(session.run(feeds, ['y'])).rejects.toThrow(ClosedError)
    await session.release()
  })

  it('names the file when it is missing, damaged or another graph', async () => {
    await expect(OnnxSession.load('/nowhere/model.onnx')).rejects.toThrow(/Expected \/nowhere\/model\.onnx to load on cpu, got: /)
    await expect(OnnxSession.load(fileURLToPath(import.meta.url))).rejects.toThrow(/onnx-session\.test\.ts to load on cpu/)
    await expect(OnnxSession.load(fixture('casts'), { inputs: ['ids', 'sample'] })).rejects.toThrow(
      /casts\.onnx to have the input sample, got ids, timestep/,
    )
    await expect(OnnxSession.load(fixture('casts'), { outputs: ['z'] })).rejects.toThrow(/the output z, got y/)
  })

  it('says which shapes a failing run had', async () => {
    const session = await OnnxSession.load(fileURLToPath(new URL('probe.onnx', import.meta.url)))
    await expect(session.run({ x: floats([1, 2, 3], [1, 3]) }, ['y'])).rejects.toThrow(/probe\.onnx to run with x \[1, 3\], got: /)
    await session.release()
  })
})

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
    const at = (...timesteps: number[]) => transformer.forward(timesteps.map((timestep) => ({ ...row, timestep })))
    const mixed = await at(1000, 987.38, 3)
    expect(mixed.dtype).toBe('float16')
    expect([mixed.data[0], mixed.data[64], mixed.data[128]]).toEqual([1000, 987.5, 3])
    const same = await at(7, 7, 7)
    expect(same.dims).toEqual([3, 16, 2, 2])
    expect(same.data.every((value) => value === 7)).toBe(true)
    await transformer.release()
  })
})
