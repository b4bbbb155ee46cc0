/**
 * float16 arithmetic on eight values at a time, in the buffers of one WebAssembly module. Invariant: a kernel either gives the same bits as
 * single operators rounded to float16, or it flags a value that it does not handle (not a number, so large that an operator could leave the
 * range of float16, or a -0 that would show a sign it has not kept), in which case its whole result must be discarded. Knows nothing about
 * tensors.
 */
import {
  add,
  addBits,
  and,
  assemble,
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
import type { Code, Kernel } from './simd-module.ts'

/** The number of values in a buffer: large enough that calls cost little, and small enough that three of halves fit into a first-level cache. */
const chunk = 4096
// Three buffers of float16 bits, and one of floats.
const buffers = [0, chunk * 2, chunk * 4] as const
const floats = chunk * 6
const memoryBytes = chunk * 10

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
const negativeZeros = constant(bits(0x80008000))
/** The bits of a float32 that float16 has no room for. */
const droppedBits = 13
/** 2^112 and 2^-112: between the exponents of float16 and float32, subnormal values included. */
const [up, down] = [constant(bits(0x77800000)), constant(bits(0x07800000))]

type Four = 0 | 1
type Buffer = (typeof buffers)[number]

/**
 * Four finite float16 values of a buffer as floats of 2^-112 their size, which saves a multiplication. Sums of such floats, and what
 * `roundSum` makes of them, have 2^-112 of their true size too: those that are subnormal as float32 are exact.
 */
const loadScaled = (buffer: Buffer, four: Four): Code => and(shiftLeft(loadFourHalves(buffer, four), droppedBits), movedUp)

/** Four finite float16 values of a buffer as floats. */
const loadWide = (buffer: Buffer, four: Four): Code => multiply(loadScaled(buffer, four), up)

/** The number that rounds each lane of `value` to float16 when it is added and subtracted again. */
const shiftOf = (value: Code): Code => addBits(largerBits(and(value, exponent), smallestNormal), toShift)

/** Rounds four lanes to float16; uses the numbers `name` and `name` + 1. A negative value that rounds to zero loses its sign. */
function roundToPlainZero(name: number, value: Code): Code {
  return [...set(name, value), ...set(name + 1, shiftOf(get(name))), ...subtract(add(get(name), get(name + 1)), get(name + 1))]
}

/** The same, and a zero keeps the sign of the value. */
const round = (name: number, value: Code): Code => or(roundToPlainZero(name, value), and(get(name), sign))

/**
 * `round` for the sum or difference of two float16 values, in fewer instructions. Below float16's smallest normal value such a sum is exact;
 * above it, Veltkamp's splitting (1968) gives the first 11 bits, rounded to nearest with ties to even.
 */
function roundSum(name: number, value: Code): Code {
  const large = [...set(name, value), ...set(name + 1, multiply(get(name), splitter))]
  return [...large, ...subtract(get(name + 1), subtract(get(name + 1), get(name)))]
}

/** The bits of four float16 values of 2^-112 their size, each in the lower half of its lane; uses the number `name`. */
function toBits(name: number, scaled: Code): Code {
  const moved = or(shiftLeft(get(name), 16 - droppedBits), and(get(name), sign))
  return [...set(name, scaled), ...shiftRight(moved, 16)]
}

/** Flags values of these buffers whose size is above the limit of the call. */
const flagLarge = (...from: Buffer[]): Code =>
  flag(isAboveInHalves(from.map((buffer) => and(loadHalves(buffer), halvesWithoutSign)).reduce(largerHalves), largestBits))

const [first, second, third] = buffers

/** Computes the bits of eight values, four at a time, and writes them over the first buffer. */
const storeBits = (fourBits: (four: Four) => Code): Code => storeHalves(first, joinFours(fourBits(0), fourBits(1)))

/** uncond + scale × (cond − uncond) of the first two buffers; uses the numbers from 1 to 5. `scaledUp`: the scale times 2^112. */
const mixFour = (four: Four, scaledUp: Code, roundProduct: typeof round): Code => [
  ...set(1, loadScaled(first, four)),
  ...set(2, roundProduct(4, multiply(scaledUp, roundSum(4, subtract(loadScaled(second, four), get(1)))))),
  ...roundSum(4, add(multiply(get(1), up), get(2))),
]

/** What the kernels compute; see float16.ts for the formulas. */
const bodies = {
  mix: [...flagLarge(first, second), ...storeBits((four) => toBits(4, multiply(mixFour(four, firstFactor, round), down)))],
  addScaled: [
    ...flagLarge(first, second),
    ...storeBits((four) =>
      toBits(4, multiply(roundSum(4, add(loadWide(first, four), round(4, multiply(firstFactor, loadWide(second, four))))), down)),
    ),
  ],
  /**
   * Only a sum with -0 shows the sign of a product that rounds to zero. So a third operand of -0 is flagged, and signs are not kept: a zero
   * that the inner sum gives with another sign changes nothing that can be seen either.
   */
  addScaledMix: [
    ...flagLarge(first, second, third),
    ...flag(isEqualInHalves(loadHalves(third), negativeZeros)),
    ...storeBits((four) => {
      const product = roundToPlainZero(4, multiply(secondFactor, mixFour(four, firstFactor, roundToPlainZero)))
      return toBits(4, roundSum(4, add(loadScaled(third, four), multiply(product, down))))
    }),
  ],
  divideAndAdd: [
    ...flagLarge(first),
    ...storeBits((four) => toBits(4, multiply(roundSum(4, add(round(4, divide(loadWide(first, four), firstFactor)), secondFactor)), down))),
  ],
  /** Bits of the first buffer to floats; the limit is the largest finite pattern. */
  widen: [...flagLarge(first), ...storeFloats(floats, 0, loadWide(first, 0)), ...storeFloats(floats, 1, loadWide(first, 1))],
  /** Floats to bits in the first buffer. */
  pack: storeBits(packFour),
} satisfies Record<string, Code>

/** Packs four floats; flags those that float16 has no finite value for. */
function packFour(four: Four): Code {
  return [
    ...set(0, loadFloats(floats, four)),
    ...flag(isAbove(and(get(0), withoutSign), largest)),
    ...toBits(1, multiply(round(1, get(0)), down)),
  ]
}

const setup = constants.flatMap((value, index) => set(firstConstant + index, value))

export interface Float16Kernels {
  readonly kernels: Readonly<Record<keyof typeof bodies, Kernel>>
  /** float16 bits: the operands; the first is where results come. */
  readonly halves: readonly [Uint16Array, Uint16Array, Uint16Array]
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
    halves: [new Uint16Array(memory, first, chunk), new Uint16Array(memory, second, chunk), new Uint16Array(memory, third, chunk)],
    floats: new Float32Array(memory, floats, chunk),
  }
}
