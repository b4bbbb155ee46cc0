/**
 * The kernels of float16-bodies.ts in WebAssembly's own instructions for float16, which round as the format asks. V8 has them, but still behind a
 * flag. Invariant: nothing is flagged, because they handle every value. Knows nothing about when they may be used.
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

// The numbers of what is set once a call. A body uses those below.
const [firstFactor, secondFactor] = [6, 7]

/** Computes what leaves eight float16 values, each a number from 0 up, in the last of them, and stores it. */
const storeLast = (...values: readonly Code[]): Code => [
  ...values.flatMap((value, name) => set(name, value)),
  ...storeHalves(buffers.results, get(values.length - 1)),
]

/** Four floats after four, made of eight float16 values of number `name`, and rounded to float16. */
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
