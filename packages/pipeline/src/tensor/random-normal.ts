/**
 * Normally distributed random tensors, equal to those of `torch.randn` with a CPU generator on x86-64, to the bit.
 *
 * Owns the generator state and both of torch's methods of turning integers into normals: from 16 values up, blocks of 16 in float32;
 * below that, single doubles with a cached second value. Invariant: the same seed and the same sequence of calls give the same
 * bits on every machine, because all rounding is explicit. (torch itself differs between x86-64 and ARM; x86-64 with AVX2
 * is the reference here, float16 as in torch 2.13.) Knows nothing about CUDA generators, which are other streams.
 * Runs in any process that uses the library.
 *
 * Sources: pytorch ATen/core/MT19937RNGEngine.h, ATen/core/DistributionsHelper.h, ATen/native/cpu/DistributionTemplates.h
 * (normal_fill_AVX2), ATen/native/cpu/avx_mathfun.h (Cephes polynomials).
 */
import { toFloat16Bits } from './float16.ts'
import { fillNormalBlock } from './normal-block.ts'
import { numelOf, Tensor } from './tensor.ts'
import type { TensorDtype } from './tensor.ts'

const stateWords = 624
const middleWord = 397
/** The seed that torch gives a generator by default. */
const defaultSeed = 67280421310721n
const minSeed = -(2n ** 63n)
const maxSeed = 2n ** 64n - 1n
/** How many values one block transforms together; smaller requests take the one-by-one path. */
const block = 16

/** Everything that determines the following draws; plain data that can be structured-cloned. */
export interface GeneratorState {
  /** The seed as torch reports it, 0 to 2^64 - 1. */
  readonly seed: bigint
  /** The 624 words of the Mersenne Twister. */
  readonly words: Uint32Array
  /** The index of the next word to return, 0 to 624; 624 means that a new round is due. */
  readonly position: number
  /** The second value of the last one-by-one draw, which the next one-by-one draw returns. */
  readonly cachedNormal: number | undefined
}

/** torch's CPU generator: MT19937 and one cached normal value. */
export class Generator {
  private seed = defaultSeed
  private words = new Uint32Array(stateWords)
  private position = stateWords
  private cachedNormal: number | undefined

  /** `seed`: an integer from -2^63 to 2^64 - 1, negative ones modulo 2^64; only the low 32 bits matter. Default: torch's own. */
  constructor(seed: number | bigint = defaultSeed) {
    this.manualSeed(seed)
  }

  /** The last seed that was set, 0 to 2^64 - 1. */
  get initialSeed(): bigint {
    return this.seed
  }

  /** Restarts the stream of `seed` from its beginning and drops the cached value. */
  manualSeed(seed: number | bigint): this {
    if (typeof seed === 'number' && !Number.isSafeInteger(seed))
      throw new RangeError(`Expected seed to be a safe integer or a bigint, got ${seed}`)
    const exact = BigInt(seed)
    if (exact < minSeed || exact > maxSeed) throw new RangeError(`Expected seed from -2^63 to 2^64 - 1, got ${exact}`)
    this.seed = BigInt.asUintN(64, exact)
    this.words[0] = Number(BigInt.asUintN(32, exact))
    for (let i = 1; i < stateWords; i++) {
      const previous = this.words[i - 1]!
      this.words[i] = Math.imul(previous ^ (previous >>> 30), 1812433253) + i
    }
    this.position = stateWords
    this.cachedNormal = undefined
    return this
  }

  getState(): GeneratorState {
    return { seed: this.seed, words: this.words.slice(), position: this.position, cachedNormal: this.cachedNormal }
  }

  setState(state: GeneratorState): this {
    if (state.words.length !== stateWords) throw new RangeError(`Expected state.words of ${stateWords} words, got ${state.words.length}`)
    if (!Number.isInteger(state.position) || state.position < 0 || state.position > stateWords)
      throw new RangeError(`Expected state.position from 0 to ${stateWords}, got ${state.position}`)
    this.seed = state.seed
    this.words = Uint32Array.from(state.words)
    this.position = state.position
    this.cachedNormal = state.cachedNormal
    return this
  }

  /** A generator that continues with the same draws and shares nothing with this one. */
  clone(): Generator {
    return new Generator().setState(this.getState())
  }

  /** The next 32 random bits, 0 to 2^32 - 1. */
  nextUint32(): number {
    if (this.position === stateWords) this.nextRound()
    let y = this.words[this.position++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  /** The next normal value of torch's one-by-one path, in double precision. */
  nextNormal(): number {
    if (this.cachedNormal !== undefined) {
      const value = this.cachedNormal
      this.cachedNormal = undefined
      return value
    }
    const u1 = this.nextUniform53()
    const u2 = this.nextUniform53()
    const radius = Math.sqrt(-2 * Math.log1p(-u2))
    const angle = 2 * Math.PI * u1
    this.cachedNormal = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }

  /** Uniform in [0, 1) with 53 bits: the low 53 of two draws put together. */
  private nextUniform53(): number {
    const high = this.nextUint32()
    const low = this.nextUint32()
    return ((high & 0x1fffff) * 2 ** 32 + low) * 2 ** -53
  }

  private nextRound(): void {
    const { words } = this
    for (let i = 0; i < stateWords; i++) {
      const mixed = (words[i]! & 0x80000000) | (words[(i + 1) % stateWords]! & 0x7fffffff)
      words[i] = words[(i + middleWord) % stateWords]! ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0)
    }
    this.position = 0
  }
}

/** Standard normal values, the same bits as `torch.randn(dims, generator=generator)`: dims float32. */
export function randn(dims: readonly number[], generator: Generator): Tensor {
  const values = new Float32Array(numelOf(dims))
  if (values.length < block) {
    for (let i = 0; i < values.length; i++) values[i] = generator.nextNormal()
  } else {
    fillUniform24(values, generator)
    const ragged = values.length % block
    for (let start = 0; start < values.length - ragged; start += block) fillNormalBlock(values, start)
    if (ragged > 0) {
      // torch draws the last 16 values again and overwrites the end of what the full blocks have written.
      const tail = values.subarray(values.length - block)
      fillUniform24(tail, generator)
      fillNormalBlock(tail, 0)
    }
  }
  return new Tensor(values, dims)
}

/**
 * Noise as diffusers draws it: one generator draws the whole tensor; of several, each draws one row. float16 values are rounded float32 values.
 * Returns a tensor with `dims` and `dtype`.
 */
export function randnTensor(dims: readonly number[], generator: Generator | readonly Generator[], dtype: TensorDtype = 'float32'): Tensor {
  const { data } = generator instanceof Generator ? randn(dims, generator) : randnRows(dims, generator)
  return new Tensor(dtype === 'float16' ? toFloat16Bits(data) : data, dims, dtype)
}

function randnRows(dims: readonly number[], generators: readonly Generator[]): Tensor {
  const [first, ...others] = generators
  // A single generator draws all rows, even when it comes in an array.
  if (first !== undefined && others.length === 0) return randn(dims, first)
  if (generators.length !== dims[0])
    throw new RangeError(`Expected one generator for each of the ${dims[0]} rows, got ${generators.length}`)
  const rowDims = [1, ...dims.slice(1)]
  const rowNumel = numelOf(rowDims)
  const values = new Float32Array(numelOf(dims))
  generators.forEach((generator, row) => values.set(randn(rowDims, generator).data, row * rowNumel))
  return new Tensor(values, dims)
}

/** Uniform in [0, 1) with 24 bits, one draw per value. */
function fillUniform24(values: Float32Array, generator: Generator): void {
  for (let i = 0; i < values.length; i++) values[i] = (generator.nextUint32() & 0xffffff) * 2 ** -24
}
