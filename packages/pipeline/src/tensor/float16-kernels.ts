/**
 * float16 arithmetic on eight values at a time, in the buffers of one WebAssembly module. Invariant: a kernel either gives the same bits as
 * single operators rounded to float16, or it flags a value that it does not handle (not a number, or so large that an operator could leave
 * the range of float16), in which case its whole result must be discarded. Knows nothing about tensors.
 */
import {
  add,
  addBits,
  and,
  assemble,
  bits,
  divide,
  factor,
  firstFour,
  flag,
  get,
  isAbove,
  isAboveInHalves,
  joinFours,
  largerBits,
  largerHalves,
  lastFour,
  limit,
  loadFloats,
  loadHalves,
  multiply,
  or,
  set,
  shiftLeft,
  shiftRight,
  storeFloats,
  storeHalves,
  subtract,
} from './simd-module.ts'
import type { Code, Kernel } from './simd-module.ts'

/** The number of values in a buffer: large enough that calls cost little, and small enough that all buffers fit into a second-level cache. */
const chunk = 8192
// Two buffers of float16 bits, and one of floats.
const [first, second, floats] = [0, chunk * 2, chunk * 4]
const memoryBytes = chunk * 8

// Numbers 0 to 5 are the bodies' own; what follows is set once a call.
const firstConstant = 6
const constants: Code[] = []
const constant = (value: Code): Code => get(firstConstant + constants.push(value) - 1)

const firstFactor = constant(factor(0))
const secondFactor = constant(factor(1))
const largestBits = constant(limit)
const sign = constant(bits(0x80000000))
const withoutSign = constant(bits(0x7fffffff))
const exponent = constant(bits(0x7f800000))
/** The exponent of float16's smallest normal value, 2^-14. */
const smallestNormal = constant(bits(0x38800000))
/** From the exponent of x to a float32 of 1.5 · 2^13 times that power: added to x, it leaves the bits of a float16. */
const toShift = constant(bits(0x06c00000))
/** The positions of a float16's bits after a shift to the left by 13, with the sign in the highest bit. */
const movedUp = constant(bits(0x8fffe000))
/** The largest float32 that rounds to a finite float16. */
const largest = constant(bits(0x477fefff))
/** 2^13 + 1, which splits a float32 into its first 11 bits and the rest. */
const splitter = constant(bits(0x46000400))
const halvesWithoutSign = constant(bits(0x7fff7fff))
/** The bits of a float32 that float16 has no room for. */
const droppedBits = 13
/** 2^112 and 2^-112: between the exponents of float16 and float32, subnormal values included. */
const [up, down] = [constant(bits(0x77800000)), constant(bits(0x07800000))]

/** Widens what `firstFour` or `lastFour` gives of finite float16 bits into four floats. */
const toFloats = (fourBits: Code): Code => multiply(and(shiftLeft(fourBits, droppedBits), movedUp), up)

/** The number that rounds each lane of `value` to float16 when it is added and subtracted again. */
const shiftOf = (value: Code): Code => addBits(largerBits(and(value, exponent), smallestNormal), toShift)

/** Rounds four lanes to float16; uses the numbers `name` and `name` + 1. The result has the sign of the value, even when it is a rounded zero. */
function round(name: number, value: Code): Code {
  const rounded = subtract(add(get(name), get(name + 1)), get(name + 1))
  return [...set(name, value), ...set(name + 1, shiftOf(get(name))), ...or(rounded, and(get(name), sign))]
}

/**
 * The same for the sum or difference of two float16 values, in fewer instructions. Below float16's smallest normal value such a sum is exact;
 * above it, Veltkamp's splitting (1968) gives the first 11 bits, rounded to nearest with ties to even.
 */
function roundSum(name: number, value: Code): Code {
  const large = [...set(name, value), ...set(name + 1, multiply(get(name), splitter))]
  return [...large, ...subtract(get(name + 1), subtract(get(name + 1), get(name)))]
}

/** The bits of four float16 values, each in the lower half of its lane; uses the number `name`. */
function toBits(name: number, value: Code): Code {
  const moved = or(shiftLeft(get(name), 16 - droppedBits), and(get(name), sign))
  return [...set(name, multiply(value, down)), ...shiftRight(moved, 16)]
}

/** Flags values whose size is above the limit of the call. */
const flagLarge = (...halves: Code[]): Code =>
  flag(isAboveInHalves(halves.map((value) => and(value, halvesWithoutSign)).reduce(largerHalves), largestBits))

/** A kernel on one or two buffers of bits that writes its result over the first. `four` computes four bits from the floats in numbers 2 and 3. */
function onHalves(four: Code, operands: 1 | 2): Code {
  const lanes = (part: (eight: Code) => Code): Code => [
    ...set(2, toFloats(part(get(0)))),
    ...(operands === 2 ? set(3, toFloats(part(get(1)))) : []),
    ...four,
  ]
  return [
    ...set(0, loadHalves(first)),
    ...(operands === 2 ? set(1, loadHalves(second)) : []),
    ...flagLarge(...(operands === 2 ? [get(0), get(1)] : [get(0)])),
    ...storeHalves(first, joinFours(lanes(firstFour), lanes(lastFour))),
  ]
}

const [a, b] = [get(2), get(3)]

/** What the kernels compute; see float16.ts for the formulas. */
const bodies = {
  mix: onHalves(toBits(4, roundSum(4, add(a, round(4, multiply(firstFactor, roundSum(4, subtract(b, a))))))), 2),
  addScaled: onHalves(toBits(4, roundSum(4, add(a, round(4, multiply(firstFactor, b))))), 2),
  divideAndAdd: onHalves(toBits(4, roundSum(4, add(round(4, divide(a, firstFactor)), secondFactor))), 1),
  /** Bits of the first buffer to floats; the limit is the largest finite pattern. */
  widen: [
    ...set(0, loadHalves(first)),
    ...flagLarge(get(0)),
    ...storeFloats(floats, 0, toFloats(firstFour(get(0)))),
    ...storeFloats(floats, 1, toFloats(lastFour(get(0)))),
  ],
  /** Floats to bits in the first buffer. */
  pack: storeHalves(first, joinFours(packFour(0), packFour(1))),
} satisfies Record<string, Code>

/** Packs four floats; flags those that float16 has no finite value for. */
function packFour(four: 0 | 1): Code {
  return [...set(0, loadFloats(floats, four)), ...flag(isAbove(and(get(0), withoutSign), largest)), ...toBits(1, round(1, get(0)))]
}

const setup = constants.flatMap((value, index) => set(firstConstant + index, value))

export interface Float16Kernels {
  readonly kernels: Readonly<Record<keyof typeof bodies, Kernel>>
  /** float16 bits: the operands; the first is where results come. */
  readonly halves: readonly [Uint16Array, Uint16Array]
  readonly floats: Float32Array
}

let ready: Float16Kernels | undefined

/** Calls `run` for one piece of `length` values after another, each no longer than a buffer. */
export function forChunks(length: number, run: (start: number, end: number, kernels: Float16Kernels) => void): void {
  ready ??= loadKernels()
  for (let start = 0; start < length; start += chunk) {
    const end = Math.min(start + chunk, length)
    // A kernel works on groups of eight, so what an earlier call left beyond the end must not raise a flag.
    if ((end - start) % 8 !== 0) for (const buffer of [...ready.halves, ready.floats]) buffer.fill(0, end - start, end - start + 7)
    run(start, end, ready)
  }
}

function loadKernels(): Float16Kernels {
  const { kernels, memory } = assemble({ setup, bodies, memoryBytes, values: firstConstant + constants.length })
  return {
    kernels,
    halves: [new Uint16Array(memory, first, chunk), new Uint16Array(memory, second, chunk)],
    floats: new Float32Array(memory, floats, chunk),
  }
}
