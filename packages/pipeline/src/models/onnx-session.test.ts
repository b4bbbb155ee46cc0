import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ClosedError } from './closed-error.ts'
import { OnnxSession } from './onnx-session.ts'
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
    expect(y).toMatchObject({ dims: [2], dtype: 'float16', data: Float32Array.of(0.5, 1.5) })
  })

  it('leaves the global Float16Array to the rest of the process', () => {
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
  it('finishes the run that has begun, and runs nothing after release', async () => {
    const session = await OnnxSession.load(fixture('float16-scale'))
    const feeds = { x: floats([1]), scale: floats([2]) }
    const begun = session.run(feeds, ['y'])
    await session.release()
    await expect(begun).resolves.toHaveProperty('y')
    await expect(session.run(feeds, ['y'])).rejects.toThrow(ClosedError)
    await session.release()
  })

  it('that is not kept open between runs is open only around them, and gives the same results', async () => {
    const bytes = await readFile(fixture('casts'))
    const session = await OnnxSession.load({ name: 'casts', bytes, weights: 'packed', betweenRuns: 'closed' })
    const run = async (timestep: number): Promise<number[]> => {
      const { y } = await session.run({ ids: { data: Int32Array.of(1, 2), dims: [2] }, timestep: floats([timestep]) }, ['y'])
      return [...(y?.data ?? [])]
    }
    expect(session.native).toBeUndefined()
    const first = await run(5)
    // The memory that a run has taken is measured now.
    expect(session.native).toBeDefined()
    expect(first).toEqual([6, 7])
    await expect.poll(() => session.native).toBeUndefined()
    // Two runs requested at once, and one requested when the session is about to close.
    expect(await Promise.all([run(1), run(2)])).toEqual([
      [2, 3],
      [3, 4],
    ])
    expect(await run(3)).toEqual([4, 5])
    const begun = run(4)
    await session.release()
    expect(await begun).toEqual([5, 6])
    await expect(run(5)).rejects.toThrow(ClosedError)
    expect(session.native).toBeUndefined()
  })

  it('that cannot be closed after a run says so in a warning, and opens again for the next run', async () => {
    const bytes = await readFile(fixture('casts'))
    const session = await OnnxSession.load({ name: 'casts', bytes, weights: 'packed', betweenRuns: 'closed' })
    const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    try {
      const feeds = { ids: { data: Int32Array.of(1), dims: [1] }, timestep: floats([5]) }
      await session.run(feeds, ['y'])
      // It is closed one turn of the event loop later.
      vi.spyOn(session.native!, 'release').mockRejectedValueOnce(new Error('device lost'))
      await expect
        .poll(() => warnings.mock.lastCall?.[0])
        .toBe('Expected casts to close after its run, got: device lost; its memory may be lost')
      expect((await session.run(feeds, ['y'])).y?.data).toEqual(Float32Array.of(6))
    } finally {
      warnings.mockRestore()
      await session.release()
    }
  })

  it('is refused with the name of its file when that is missing, damaged or another graph', async () => {
    await expect(OnnxSession.load('/nowhere/model.onnx')).rejects.toThrow(/Expected \/nowhere\/model\.onnx to load on cpu, got: /)
    await expect(OnnxSession.load(fileURLToPath(import.meta.url))).rejects.toThrow(/onnx-session\.test\.ts to load on cpu/)
    await expect(OnnxSession.load(fixture('casts'), { inputs: ['ids', 'sample'] })).rejects.toThrow(
      /casts\.onnx to have the input sample, got ids, timestep/,
    )
    await expect(OnnxSession.load(fixture('casts'), { outputs: ['z'] })).rejects.toThrow(/the output z, got y/)
  })

  it('is refused when it is loaded if an input or output has a type that no run could use', async () => {
    await expect(OnnxSession.load(fixture('bool-input'), { inputs: ['mask'] })).rejects.toThrow(
      /Expected input "mask" of .*bool-input\.onnx to be float32, float16, int64, int32, got bool/,
    )
    await expect(OnnxSession.load(fixture('bool-output'), { outputs: ['y'] })).rejects.toThrow(
      /Expected output "y" of .*bool-output\.onnx to be float32, float16, got bool/,
    )
  })

  it('names the shapes of a run that fails', async () => {
    const session = await OnnxSession.load(fileURLToPath(new URL('probe.onnx', import.meta.url)))
    await expect(session.run({ x: floats([1, 2, 3], [1, 3]) }, ['y'])).rejects.toThrow(/probe\.onnx to run with x \[1, 3\], got: /)
    await session.release()
  })
})
