/**
 * float16 arithmetic on four values at a time, in the buffers of one WebAssembly module. Invariant: a kernel either gives the same bits as
 * single operators rounded to float16, or it flags a value that it does not handle (too large for float16, not a number, or, when packing,
 * not a float16 value), in which case its whole result must be discarded. Knows nothing about tensors.
 */
import { add, addBits, and, assemble, bits, bufferBytes, divide, factor, flag, get, isAbove, largerBits, load } from './simd-module.ts'
import { loadHalves, multiply, or, set, shiftLeft, shiftRight, store, storeHalves, subtract } from './simd-module.ts'
import type { Code, Kernel } from './simd-module.ts'

// Numbers 0 to 2 are the bodies' own; what follows is set once a call.
const firstConstant = 3
const constants: Code[] = [factor(0), factor(1)]
const constant = (value: Code): Code => get(firstConstant + constants.push(value) - 1)

const sign = constant(bits(0x80000000))
const withoutSign = constant(bits(0x7fffffff))
const exponent = constant(bits(0x7f800000))
/** The largest float32 that rounds to a finite float16. */
const largest = constant(bits(0x477fefff))
/** The exponent of float16's smallest normal value, 2^-14. */
const smallestNormal = constant(bits(0x38800000))
/** From the exponent of x to a float32 of 1.5 · 2^13 times that power: added to x, it leaves the bits of a float16. */
const toShift = constant(bits(0x06c00000))
const [first, second] = [get(firstConstant), get(firstConstant + 1)]

/** The bits of a float32 that float16 has no room for. */
const droppedBits = 13
/** 2^112 and 2^-112: between the exponents of float16 and float32, subnormal values included. */
const [up, down] = [bits(0x77800000), bits(0x07800000)]

/** Rounds the lanes of `value` to float16; uses the numbers `name` and `name` + 1. */
function round(name: number, value: Code): Code {
  const size = and(get(name), withoutSign)
  const shift = addBits(largerBits(and(get(name), exponent), smallestNormal), toShift)
  const rounded = subtract(add(get(name), get(name + 1)), get(name + 1))
  // The result has the sign of the value, even when it is a rounded zero.
  return [...set(name, value), ...flag(isAbove(size, largest)), ...set(name + 1, shift), ...or(rounded, and(get(name), sign))]
}

/** What the kernels compute in buffer 0; see float16.ts for the formulas. */
const bodies = {
  mix: [...set(0, load(0)), ...store(0, round(1, add(get(0), round(1, multiply(first, round(1, subtract(load(1), get(0))))))))],
  addScaled: store(0, round(0, add(load(0), round(0, multiply(first, load(1)))))),
  divideAndAdd: store(0, round(0, add(round(0, divide(load(0), first)), second))),
  /** Bits in buffer 1 to floats in buffer 0. */
  widen: [
    ...set(0, loadHalves(1)),
    ...set(1, and(get(0), bits(0x7fff))),
    ...store(
      0,
      or(
        or(multiply(shiftLeft(get(1), droppedBits), up), and(isAbove(get(1), bits(0x7bff)), exponent)),
        shiftLeft(and(get(0), bits(0x8000)), 16),
      ),
    ),
  ],
  /** Floats in buffer 0 to bits in buffer 1. */
  pack: [
    ...set(0, load(0)),
    ...set(1, and(get(0), withoutSign)),
    ...flag(isAbove(get(1), largest)),
    ...set(1, multiply(get(1), down)),
    ...flag(and(get(1), bits(0x1fff))),
    ...storeHalves(1, or(shiftRight(get(1), droppedBits), and(shiftRight(get(0), 16), bits(0x8000)))),
  ],
} satisfies Record<string, Code>

const setup = constants.flatMap((value, index) => set(firstConstant + index, value))

export interface Float16Kernels {
  readonly kernels: Readonly<Record<keyof typeof bodies, Kernel>>
  /** Buffers 0 and 1 as floats. */
  readonly floats: readonly [Float32Array, Float32Array]
  /** Buffer 1 as float16 bits. */
  readonly halves: Uint16Array
}

const chunk = bufferBytes / Float32Array.BYTES_PER_ELEMENT
let ready: Float16Kernels | undefined

/** Calls `run` for one piece of `length` values after another, each no longer than a buffer. */
export function forChunks(length: number, run: (start: number, end: number, kernels: Float16Kernels) => void): void {
  ready ??= loadKernels()
  for (let start = 0; start < length; start += chunk) {
    const end = Math.min(start + chunk, length)
    // A kernel works on groups of four, so what an earlier call left beyond the end must not raise a flag.
    for (const buffer of ready.floats) buffer.fill(0, end - start, Math.min(end - start + 3, chunk))
    run(start, end, ready)
  }
}

function loadKernels(): Float16Kernels {
  const { kernels, memory } = assemble({ setup, bodies, buffers: 2, values: firstConstant + constants.length })
  return {
    kernels,
    floats: [new Float32Array(memory, 0, chunk), new Float32Array(memory, bufferBytes, chunk)],
    halves: new Uint16Array(memory, bufferBytes, chunk),
  }
}
