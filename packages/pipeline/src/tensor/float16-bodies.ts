/**
 * float16 arithmetic on eight values at a time, as the bodies of WebAssembly kernels, in instructions that every machine has. Invariant: a kernel
 * either gives the same bits as single operators rounded to float16, or it flags a value that it does not handle (NaN, a value so large that an
 * operator could leave the range of float16, or a -0 whose sign it would lose), in which case its whole result must be discarded. Knows nothing
 * about tensors or who runs a kernel.
 */
import {
  add,
  addBits,
  and,
  bits,
  divide,
  factor,
  flag,
  get,
  isAbove,
  isAboveInHalves,
  isEqualInHalves,
  joinFours,
  largerBits,
  largerHalves,
  limit,
  loadFloats,
  loadFourHalves,
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
import type { Code, KernelSource, Operand } from './simd-module.ts'
import { buffers } from './float16-buffers.ts'

// Locals, here called numbers: 0 to 5 are for the first four values, 6 to 11 for the last four; the constants after them are set once per call.
const numbersOfFour = 6
const firstConstant = numbersOfFour * 2
const constants: Code[] = []
const constant = (value: Code): Code => get(firstConstant + constants.push(value) - 1)

const firstFactor = constant(factor(0))
/** The first factor for operands scaled by 2^-112; infinite for factors from 2^16 up. */
const firstFactorUp = constant(multiply(factor(0), bits(0x77800000)))
const secondFactor = constant(factor(1))
const largestBits = constant(limit)
const sign = constant(bits(0x80000000))
const withoutSign = constant(bits(0x7fffffff))
const exponent = constant(bits(0x7f800000))
/** The exponent of float16's smallest normal value, 2^-14. */
const smallestNormal = constant(bits(0x38800000))
/** Added to the exponent of x, this gives a float32 of 1.5 · 2^13 times that power of two. Adding that to x leaves the bits of a float16. */
const toShift = constant(bits(0x06c00000))
/** The positions of a float16's bits after a shift to the left by 13, with the sign in the highest bit. */
const movedUp = constant(bits(0x8fffe000))
/** The largest float32 that rounds to a finite float16. */
const largest = constant(bits(0x477fefff))
/** 2^13 + 1, which splits a float32 into its first 11 bits and the rest. */
const splitter = constant(bits(0x46000400))
const halvesWithoutSign = constant(bits(0x7fff7fff))
const negativeZeros = constant(bits(0x80008000))
/** The bits of a float32 that float16 has no room for. */
const droppedBits = 13
/** 2^112 and 2^-112: the factors between the exponents of float16 and float32, subnormal values included. */
const [up, down] = [constant(bits(0x77800000)), constant(bits(0x07800000))]

type Four = 0 | 1

/** Statements, each of which sets a number. Those for the two groups of four are interleaved, so that the processor need not wait for a result. */
type Statements = readonly Code[]

/**
 * Four finite float16 values of an operand as floats scaled by 2^-112, which saves a multiplication. Sums of such floats, and the results of
 * `roundSum` on them, are scaled by 2^-112 too; those that are subnormal as float32 are exact.
 */
const loadScaled = (operand: Operand, four: Four): Code => and(shiftLeft(loadFourHalves(operand, four), droppedBits), movedUp)

/** Four finite float16 values of an operand as floats. */
const loadWide = (operand: Operand, four: Four): Code => multiply(loadScaled(operand, four), up)

/** The number that rounds each lane of `value` to float16 when it is added and subtracted again. */
const shiftOf = (value: Code): Code => addBits(largerBits(and(value, exponent), smallestNormal), toShift)

/** Number `at` rounded by adding and subtracting number `at` + 1. A negative value that rounds to zero loses its sign. */
const shifted = (at: number): Code => subtract(add(get(at), get(at + 1)), get(at + 1))

/** Rounds the lanes of number `at` to float16; uses number `at` + 1. A negative value that rounds to zero loses its sign. */
const roundToPlainZero = (at: number): Statements => [set(at + 1, shiftOf(get(at))), set(at, shifted(at))]

/** The same, and a zero keeps the sign of the value. */
const round = (at: number): Statements => [set(at + 1, shiftOf(get(at))), set(at, or(shifted(at), and(get(at), sign)))]

/**
 * `round` for the sum or difference of two float16 values, in fewer instructions. Below float16's smallest normal value such a sum is exact;
 * above it, Veltkamp's splitting (1968) gives the first 11 bits, rounded to nearest with ties to even.
 */
const roundSum = (at: number): Statements => [
  set(at + 1, multiply(get(at), splitter)),
  set(at, subtract(get(at + 1), subtract(get(at + 1), get(at)))),
]

/** Turns values scaled by 2^-112, in number `at`, into the bits of float16, each in the lower half of its lane. */
const toBits = (at: number): Statements => [set(at, shiftRight(or(shiftLeft(get(at), 16 - droppedBits), and(get(at), sign)), 16))]

/** Flags values of these operands whose size is above the limit of the call. */
const flagLarge = (...operands: Operand[]): Code =>
  flag(isAboveInHalves(operands.map((operand) => and(loadHalves(operand), halvesWithoutSign)).reduce(largerHalves), largestBits))

/** Computes eight values and stores their bits as results. `fourBits` leaves the bits of four in number `at` and may use numbers up to `at` + 5. */
function storeBits(fourBits: (at: number, four: Four) => Statements): Code {
  const [firstFour, lastFour] = [fourBits(0, 0), fourBits(numbersOfFour, 1)]
  const inTurn = firstFour.flatMap((statement, index) => [...statement, ...(lastFour[index] as Code)])
  return [...inTurn, ...storeHalves(buffers.results, joinFours(get(0), get(numbersOfFour)))]
}

/** uncond + scale × (cond − uncond) of the first two operands, in number `at`; uses `at` + 1 and `at` + 2. */
const mixFour = (at: number, four: Four, roundProduct: typeof round): Statements => [
  set(at + 2, loadScaled(0, four)),
  set(at, subtract(loadScaled(1, four), get(at + 2))),
  ...roundSum(at),
  set(at, multiply(firstFactorUp, get(at))),
  ...roundProduct(at),
  set(at, add(multiply(get(at + 2), up), get(at))),
  ...roundSum(at),
]

/** What the kernels compute; see float16.ts for the formulas. */
const bodies = {
  mix: [...flagLarge(0, 1), ...storeBits((at, four) => [...mixFour(at, four, round), set(at, multiply(get(at), down)), ...toBits(at)])],
  addScaled: [
    ...flagLarge(0, 1),
    ...storeBits((at, four) => [
      set(at, multiply(firstFactor, loadWide(1, four))),
      ...round(at),
      set(at, add(loadWide(0, four), get(at))),
      ...roundSum(at),
      set(at, multiply(get(at), down)),
      ...toBits(at),
    ]),
  ],
  /**
   * The sign of a product that rounds to zero shows only when it is added to -0. So a -0 in the third operand is flagged, and the signs of zeros
   * are not kept; a zero of the inner sum with the wrong sign does not change the result either.
   */
  addScaledMix: [
    ...flagLarge(0, 1, 2),
    ...flag(isEqualInHalves(loadHalves(2), negativeZeros)),
    ...storeBits((at, four) => [
      ...mixFour(at, four, roundToPlainZero),
      set(at, multiply(secondFactor, get(at))),
      ...roundToPlainZero(at),
      set(at, add(loadScaled(2, four), multiply(get(at), down))),
      ...roundSum(at),
      ...toBits(at),
    ]),
  ],
  divideAndAdd: [
    ...flagLarge(0),
    ...storeBits((at, four) => [
      set(at, divide(loadWide(0, four), firstFactor)),
      ...round(at),
      set(at, add(get(at), secondFactor)),
      ...roundSum(at),
      set(at, multiply(get(at), down)),
      ...toBits(at),
    ]),
  ],
  /** Bits of the first operand to floats; the limit is the largest finite pattern. */
  widen: [...flagLarge(0), ...storeFloats(buffers.floats, 0, loadWide(0, 0)), ...storeFloats(buffers.floats, 1, loadWide(0, 1))],
  /** Floats to bits. Flags those that float16 has no finite value for. */
  pack: storeBits((at, four) => [
    set(at, loadFloats(buffers.floats, four)),
    flag(isAbove(and(get(at), withoutSign), largest)),
    ...round(at),
    set(at, multiply(get(at), down)),
    ...toBits(at),
  ]),
} satisfies Record<string, Code>

/** The kernels for any machine. */
export const float16Bodies: KernelSource<keyof typeof bodies> = {
  setup: constants.flatMap((value, index) => set(firstConstant + index, value)),
  bodies,
  values: firstConstant + constants.length,
}
