/**
 * Assembles WebAssembly modules for loops over eight values at a time, which JavaScript itself cannot express. A kernel is one function: it
 * runs `setup` once and `body` for each group of eight, and returns whether any bit of `flags` is set at the end. One module serves any
 * number of memories. Owns the encoding of the few instructions that our kernels need and nothing else (WebAssembly core specification 2.0,
 * chapter 5). Knows nothing about what is computed.
 */

interface Memory {
  readonly buffer: ArrayBuffer
}

/** TypeScript declares this global only together with those of a browser. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object, imports: Record<string, Record<string, Memory>>) => { exports: object }
  Memory: new (limits: { initial: number; maximum: number }) => Memory
}

/** Instructions that leave one vector of four 32-bit or eight 16-bit lanes on the stack, or nothing. */
export type Code = readonly number[]

const simdPrefix = 0xfd
const i32 = 0x7f
const f32 = 0x7d
const v128 = 0x7b

const vectorBytes = 16
/** Four 16-bit lanes. */
const halfVectorBytes = 8
const alignment = 1

const unsigned = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)])
const simd = (instruction: number): number[] => [simdPrefix, ...unsigned(instruction)]
const binary =
  (instruction: number) =>
  (a: Code, b: Code): Code => [...a, ...b, ...simd(instruction)]
const shift =
  (instruction: number) =>
  (a: Code, bits: number): Code => [...a, 0x41, bits, ...simd(instruction)]

// Four lanes as floats, rounded to nearest as Math.fround does.
export const add = binary(0xe4)
export const subtract = binary(0xe5)
export const multiply = binary(0xe6)
export const divide = binary(0xe7)
// Four lanes as bits.
export const and = binary(0x4e)
export const or = binary(0x50)
export const addBits = binary(0xae)
export const largerBits = binary(0xb9)
/** All ones where `a` is greater than `b`, both as signed integers; zero elsewhere. */
export const isAbove = binary(0x3b)
export const shiftLeft = shift(0xab)
export const shiftRight = shift(0xad)
// Eight 16-bit lanes.
export const isAboveInHalves = binary(0x31)
export const isEqualInHalves = binary(0x2d)
export const largerHalves = binary(0x98)
/** Eight lanes of two vectors whose lanes are below 2^16. */
export const joinFours = binary(0x86)

const unary =
  (instruction: number) =>
  (a: Code): Code => [...a, ...simd(instruction)]
const shuffle = (a: Code, b: Code, lanes: readonly number[]): Code => [
  ...a,
  ...b,
  ...simd(0x0d),
  ...lanes.flatMap((lane) => Array.from({ length: halfVectorBytes }, (_, byte) => lane * halfVectorBytes + byte)),
]
// Behind V8's flag --experimental-wasm-fp16 (WebAssembly's half-precision proposal). Eight lanes as float16, each result rounded:
export const addHalves = binary(0x13d)
export const subtractHalves = binary(0x13e)
/** The first four of eight float16 lanes as floats. */
export const promoteLow = unary(0x14b)
/** Four floats rounded to float16, in the first four of eight lanes. */
export const demote = unary(0x149)
// Moves halves of vectors to where promoteLow and demote work.
/** The last four of eight lanes in place of the first. */
export const lastFour = (value: Code): Code => shuffle(value, [...value], [1, 1])
/** The first four lanes of both. */
export const joinLow = (a: Code, b: Code): Code => shuffle(a, b, [0, 2])

/** The same 32 bits in each of four lanes. */
export function bits(pattern: number): Code {
  const bytes = [0, 8, 16, 24].map((from) => (pattern >>> from) & 0xff)
  return [...simd(0x0c), ...bytes, ...bytes, ...bytes, ...bytes]
}

// Parameters of a kernel: 0 the bytes of its 16-bit values, 1 and 2 its two factors, 3 its limit, 4 to 6 where its operands start, in bytes.
// Locals: 7 place in 16-bit values, in bytes; 8 flags; 9 up for values.
const firstOperand = 4
const placeIndex = 7
const flagsIndex = 8
const firstValue = 9
const place: Code = [0x20, placeIndex]
/** 32-bit values are twice as far from the start of their buffer. */
const doublePlace: Code = [0x20, placeIndex, 0x41, 1, 0x74]

/** The number of an operand, which holds 16-bit values and starts where the call says. */
export type Operand = 0 | 1 | 2
const operandPlace = (operand: Operand): Code => [0x20, firstOperand + operand, ...place, 0x6a]

/** Factor `index` (0 or 1) of the call, in each of four lanes. */
export const factor = (index: 0 | 1): Code => [0x20, 1 + index, ...simd(0x13)]
/** The limit of the call, in each of eight lanes. */
export const limit: Code = [0x20, 3, ...simd(0x10)]
/** The eight 16-bit values at the current position of an operand. */
export const loadHalves = (operand: Operand): Code => [...operandPlace(operand), ...simd(0x00), alignment, 0]
/** The first (0) or last (1) four of them in lanes of 32 bits, each with its sign carried through the upper 16. */
export const loadFourHalves = (operand: Operand, four: 0 | 1): Code => [
  ...operandPlace(operand),
  ...simd(0x03),
  alignment,
  four * halfVectorBytes,
]
/** Stores eight 16-bit values at the current position of the buffer that starts at byte `start`. */
export const storeHalves = (start: number, value: Code): Code => [...place, ...value, ...simd(0x0b), alignment, ...unsigned(start)]
/** The first (0) or last (1) four of the eight floats at the current position of the buffer that starts at byte `start`. */
export const loadFloats = (start: number, four: 0 | 1): Code => [
  ...doublePlace,
  ...simd(0x00),
  alignment,
  ...unsigned(start + four * vectorBytes),
]
export const storeFloats = (start: number, four: 0 | 1, value: Code): Code => [
  ...doublePlace,
  ...value,
  ...simd(0x0b),
  alignment,
  ...unsigned(start + four * vectorBytes),
]
/** Stores a vector under a number from 0 up, so that it can be read more than once. */
export const set = (name: number, value: Code): Code => [...value, 0x21, firstValue + name]
export const get = (name: number): Code => [0x20, firstValue + name]
/** Adds bits to the flags that decide what the kernel returns. */
export const flag = (value: Code): Code => [0x20, flagsIndex, ...value, ...simd(0x50), 0x21, flagsIndex]

/**
 * Runs over the first `values` values of its operands, rounded up to a multiple of eight; returns true if any bit was flagged. `starts`: the
 * byte of the memory at which each operand starts.
 */
type Kernel = (values: number, first: number, second: number, limit: number, ...starts: readonly number[]) => boolean

export interface SimdModule<Name extends string> {
  readonly kernels: Readonly<Record<Name, Kernel>>
  readonly memory: ArrayBuffer
}

export interface KernelSource<Name extends string> {
  /** Runs once per call; what `set` stores here stays for the whole loop. */
  readonly setup: Code
  readonly bodies: Readonly<Record<Name, Code>>
  /** How many different numbers `set` uses. */
  readonly values: number
}

const pageBytes = 65536

/** Compiles the kernels. The function that it returns makes a memory of at least that many bytes, with kernels that work in it. */
export function assemble<Name extends string>(source: KernelSource<Name>): (memoryBytes: number) => SimdModule<Name> {
  const names = Object.keys(source.bodies) as Name[]
  const module = new WebAssembly.Module(Uint8Array.from(encodeModule(names, source)))
  return (memoryBytes) => {
    const pages = Math.ceil(memoryBytes / pageBytes)
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    const { exports } = new WebAssembly.Instance(module, { [importModule]: { [importName]: memory } })
    const kernels = names.map((name): [Name, Kernel] => {
      const run = Reflect.get(exports, name) as (bytes: number, ...rest: readonly number[]) => number
      return [name, (count, ...rest) => run(count * 2, ...rest) !== 0]
    })
    return { kernels: Object.fromEntries(kernels) as Record<Name, Kernel>, memory: memory.buffer }
  }
}

const importModule = 'kernels'
const importName = 'memory'

function encodeModule(names: readonly string[], source: KernelSource<string>): number[] {
  const bodies = Object.values(source.bodies)
  const text = (value: string): number[] => [...unsigned(value.length), ...Buffer.from(value)]
  const list = (entries: readonly (readonly number[])[]): number[] => [...unsigned(entries.length), ...entries.flat()]
  const sized = (content: readonly number[]): number[] => [...unsigned(content.length), ...content]
  const section = (id: number, entries: readonly (readonly number[])[]): number[] => [id, ...sized(list(entries))]
  const magicAndVersion = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return [
    ...magicAndVersion,
    ...section(1, [[0x60, ...list([[i32], [f32], [f32], [i32], [i32], [i32], [i32]]), ...list([[i32]])]]),
    ...section(2, [[...text(importModule), ...text(importName), 2, 0, 0]]),
    ...section(
      3,
      bodies.map(() => [0]),
    ),
    ...section(
      7,
      names.map((name, index) => [...text(name), 0, ...unsigned(index)]),
    ),
    ...section(
      10,
      bodies.map((body) => sized(encodeFunction(source.setup, body, source.values))),
    ),
  ]
}

function encodeFunction(setup: Code, body: Code, values: number): number[] {
  const locals = [2, 1, i32, ...unsigned(1 + values), v128]
  const loop = [0x03, 0x40]
  /** place += 16, then loops while place is below the number of bytes. */
  const next = [...place, 0x41, vectorBytes, 0x6a, 0x22, placeIndex, 0x20, 0, 0x49, 0x0d, 0]
  const end = 0x0b
  const anyFlag = [0x20, flagsIndex, ...simd(0x53)]
  return [...locals, ...setup, ...loop, ...body, ...next, end, ...anyFlag, end]
}
