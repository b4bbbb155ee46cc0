/**
 * The kernels of float16-bodies.ts in WebAssembly's own instructions for float16, which round as IEEE 754 requires. In V8 they are still behind a
 * flag. Invariant: no value is flagged, because they handle every one. Knows nothing about when they may be used.
 */
import { buffers } from './float16-buffers.ts'
import type { float16Bodies } from './float16-bodies.ts'
import {
  add,
  addHalves,
  demote,
  divide,
  factor,
  get,
  joinLow,
  lastFour,
  loadFloats,
  loadHalves,
  multiply,
  promoteLow,
  set,
  storeFloats,
  storeHalves,
  subtractHalves,
} from './simd-module.ts'
import type { Code } from './simd-module.ts'

/** The name of V8's flag, without which it refuses these kernels. */
export const halfFlag = 'experimental-wasm-fp16'

// The numbers of the two values that are set once per call. A body uses the numbers below them.
const [firstFactor, secondFactor] = [6, 7]

/** Sets one number after another, from 0 up, and stores the eight float16 values of the last one. */
const storeLast = (...values: readonly Code[]): Code => [
  ...values.flatMap((value, name) => set(name, value)),
  ...storeHalves(buffers.results, get(values.length - 1)),
]

/** Applies `ofFour` to the eight float16 values of number `name`, four at a time as floats, and rounds the results to float16. */
const byFours = (name: number, ofFour: (floats: Code) => Code): Code =>
  joinLow(demote(ofFour(promoteLow(get(name)))), demote(ofFour(promoteLow(lastFour(get(name))))))

const scaled = (name: number, by: Code): Code => byFours(name, (four) => multiply(by, four))

const bodies: typeof float16Bodies.bodies = {
  mix: storeLast(loadHalves(0), subtractHalves(loadHalves(1), get(0)), scaled(1, get(firstFactor)), addHalves(get(0), get(2))),
  addScaled: storeLast(loadHalves(1), scaled(0, get(firstFactor)), addHalves(loadHalves(0), get(1))),
  addScaledMix: storeLast(
    loadHalves(0),
    subtractHalves(loadHalves(1), get(0)),
    scaled(1, get(firstFactor)),
    addHalves(get(0), get(2)),
    scaled(3, get(secondFactor)),
    addHalves(loadHalves(2), get(4)),
  ),
  divideAndAdd: storeLast(
    loadHalves(0),
    byFours(0, (four) => divide(four, get(firstFactor))),
    byFours(1, (four) => add(four, get(secondFactor))),
  ),
  widen: [
    ...set(0, loadHalves(0)),
    ...storeFloats(buffers.floats, 0, promoteLow(get(0))),
    ...storeFloats(buffers.floats, 1, promoteLow(lastFour(get(0)))),
  ],
  pack: storeLast(joinLow(demote(loadFloats(buffers.floats, 0)), demote(loadFloats(buffers.floats, 1)))),
}

/** The kernels for a V8 that takes them. */
export const halfBodies: typeof float16Bodies = {
  setup: [...set(firstFactor, factor(0)), ...set(secondFactor, factor(1))],
  bodies,
  values: 8,
}
