/**
 * Runs float16 kernels over any number of values, in WebAssembly memories. Chooses the instructions: those of half-bodies.ts if the process
 * allows them and they pass a check, else those of float16-bodies.ts. Knows nothing about tensors.
 */
import { setFlagsFromString } from 'node:v8'
import { float16Bodies } from './float16-bodies.ts'
import { bufferBytes, buffers, chunk } from './float16-buffers.ts'
import { halfBodies, halfFlag } from './half-bodies.ts'
import { assemble } from './simd-module.ts'
import type { SimdModule } from './simd-module.ts'

type Kernels = SimdModule<keyof typeof float16Bodies.bodies>

interface Float16Kernels extends Kernels {
  /** Buffers for the bits of operands that are in other memory. Results are written to the first. */
  readonly halves: readonly [Uint16Array, Uint16Array, Uint16Array]
  /** A buffer for the floats that a kernel reads or writes. */
  readonly floats: Float32Array
}

let allowsHalf = false
let usesHalf = false
let makeModule: ((memoryBytes: number) => Kernels) | undefined

/**
 * Lets this process use V8's instructions for float16, which halve the time that guidance and a scheduler's step take. They are experimental, so
 * the decision belongs to the program, not to a library. Call it before the first float16 value is computed; later it has no effect.
 */
export function allowHalfInstructions(): void {
  allowsHalf = true
}

/** Whether the kernels use those instructions. The first call decides it. */
export function usesHalfInstructions(): boolean {
  makeModule ??= compile()
  return usesHalf
}

/** Called at the first use, because a process that computes in float32 needs no kernels. */
function compile(): (memoryBytes: number) => Kernels {
  const plain = assemble(float16Bodies)
  if (!allowsHalf) return plain
  // V8 looks at the flag while a module is compiled, so setting it only here affects nothing else in the process.
  setFlagsFromString(`--${halfFlag}`)
  try {
    const half = assemble(halfBodies)
    usesHalf = agree(half(bufferBytes), plain(bufferBytes))
    return usesHalf ? half : plain
  } catch {
    return plain
  } finally {
    setFlagsFromString(`--no-${halfFlag}`)
  }
}

/** Whether two modules compute the same from values that the plain one handles: of both signs, subnormal ones, and with every pattern of low bits. */
function agree(...modules: readonly [Kernels, Kernels]): boolean {
  const [one, other] = modules.map(({ kernels, memory }) => {
    const results: Buffer[] = []
    for (const kernel of Object.values(kernels)) {
      const bits = new Uint16Array(memory, 0, chunk * 3)
      // Without bit 13 all values are below 512. No value is zero, because the plain kernels flag -0.
      for (let i = 0; i < bits.length; i++) bits[i] = (Math.imul(i, 40503) & 0xdfff) | 1
      const floats = new Float32Array(memory, buffers.floats, chunk)
      for (let i = 0; i < chunk; i++) floats[i] = Math.sin(i) * 2 ** ((i % 40) - 26)
      kernel(chunk, 4.3, -3 / 256, 0x7bff, ...buffers.operands)
      results.push(Buffer.from(memory.slice(0, bufferBytes)))
    }
    return Buffer.concat(results)
  }) as [Buffer, Buffer]
  return one.equals(other)
}

/** `valuesBytes`: the bytes of memory beyond the buffers. */
function loadKernels(valuesBytes: number): Float16Kernels {
  const { kernels, memory } = (makeModule ??= compile())(bufferBytes + valuesBytes)
  const [first, second, third] = buffers.operands
  return {
    kernels,
    memory,
    halves: [new Uint16Array(memory, first, chunk), new Uint16Array(memory, second, chunk), new Uint16Array(memory, third, chunk)],
    floats: new Float32Array(memory, buffers.floats, chunk),
  }
}

/** Kernels for values in any memory. */
let ready: Float16Kernels | undefined
/** Kernels for values in the memory of those kernels. */
const kernelsOf = new WeakMap<ArrayBufferLike, Float16Kernels>()

/** Zeros as float16 bits, in a WebAssembly memory of their own, where kernels read them without a copy. It is freed with the last view of it. */
export function makeHalves(length: number): Uint16Array<ArrayBuffer> {
  try {
    const own = loadKernels(length * 2)
    kernelsOf.set(own.memory, own)
    return new Uint16Array(own.memory, bufferBytes, length)
  } catch {
    // Such a memory is not always available: their number is limited, and none can exceed 4 GiB.
    return new Uint16Array(length)
  }
}

/** Computes the values from `start` up to but excluding `end`. `starts`: the byte offset of each operand's values in the kernels' memory. */
type RunPiece = (start: number, end: number, kernels: Float16Kernels, starts: readonly number[]) => void

/** Calls `run` for one piece of `length` values after another, each no longer than a buffer. */
export function forChunks(length: number, operands: readonly Uint16Array[], run: RunPiece): void {
  const own = operands.map(({ buffer }) => kernelsOf.get(buffer)).find((kernels) => kernels !== undefined) ?? (ready ??= loadKernels(0))
  for (let start = 0; start < length; start += chunk) {
    const end = Math.min(start + chunk, length)
    const isWhole = (end - start) % 8 === 0
    // A kernel works on groups of eight, and values that an earlier call left beyond the end must not raise a flag.
    if (!isWhole) for (const buffer of [...own.halves, own.floats]) buffer.fill(0, end - start, end - start + 7)
    const starts = operands.map((operand, index) => {
      if (isWhole && operand.buffer === own.memory) return operand.byteOffset + start * 2
      own.halves[index]?.set(operand.subarray(start, end))
      return buffers.operands[index] as number
    })
    run(start, end, own, starts)
  }
}
