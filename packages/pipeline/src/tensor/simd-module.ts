/**
 * Assembles WebAssembly modules for loops over four floats at a time, which JavaScript itself cannot express. A kernel is one function: it
 * runs `setup` once and `body` for each group of four, and returns whether any bit of `flags` is set at the end. Owns the encoding of the
 * few instructions that our kernels need and nothing else (WebAssembly core specification 2.0, chapter 5). Knows nothing about what is
 * computed.
 */

/** TypeScript declares this global only together with those of a browser. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object) => { exports: { memory: { buffer: ArrayBuffer } } }
}

/** Instructions that leave one vector of four 32-bit lanes on the stack, or nothing. */
export type Code = readonly number[]

const SIMD = 0xfd
const I32 = 0x7f
const F32 = 0x7d
const V128 = 0x7b

/** The size of each buffer in bytes. All buffers together fit into a processor's first-level cache. */
export const bufferBytes = 16384
const alignment = 2

const unsigned = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)])
const simd = (instruction: number): number[] => [SIMD, ...unsigned(instruction)]
const binary =
  (instruction: number) =>
  (a: Code, b: Code): Code => [...a, ...b, ...simd(instruction)]
const shift =
  (instruction: number) =>
  (a: Code, bits: number): Code => [...a, 0x41, bits, ...simd(instruction)]

// Lanes as floats, rounded to the nearest as Math.fround does.
export const add = binary(0xe4)
export const subtract = binary(0xe5)
export const multiply = binary(0xe6)
export const divide = binary(0xe7)
// Lanes as bits.
export const and = binary(0x4e)
export const or = binary(0x50)
export const addBits = binary(0xae)
export const largerBits = binary(0xb9)
/** All ones where `a` is greater than `b`, both as signed integers; zero elsewhere. */
export const isAbove = binary(0x3b)
export const shiftLeft = shift(0xab)
export const shiftRight = shift(0xad)

/** The same 32 bits in each lane. */
export function bits(pattern: number): Code {
  const bytes = [0, 8, 16, 24].map((from) => (pattern >>> from) & 0xff)
  return [...simd(0x0c), ...bytes, ...bytes, ...bytes, ...bytes]
}

// Parameters of a kernel: 0 how many bytes of the first buffer are left, 1 and 2 its two factors. Locals: 3 place, 4 flags, 5 up for values.
const firstValue = 5

/** Factor `index` (0 or 1) of the call, in each lane. */
export const factor = (index: 0 | 1): Code => [0x20, 1 + index, ...simd(0x13)]
/** Four floats of buffer `index` at the current position. */
export const load = (index: number): Code => [0x20, 3, ...simd(0x00), alignment, ...unsigned(index * bufferBytes)]
export const store = (index: number, value: Code): Code => [0x20, 3, ...value, ...simd(0x0b), alignment, ...unsigned(index * bufferBytes)]
/** Four 16-bit integers of buffer `index`, zero-extended; the position in 16-bit buffers is half that in the others. */
export const loadHalves = (index: number): Code => [0x20, 3, 0x41, 1, 0x76, ...simd(0x04), 1, ...unsigned(index * bufferBytes)]
/** Stores the low 16 bits of each lane; lanes must be below 2^16. */
export const storeHalves = (index: number, value: Code): Code => {
  const narrowed = [...value, ...value, ...simd(0x86)]
  return [0x20, 3, 0x41, 1, 0x76, ...narrowed, ...simd(0x5b), 1, ...unsigned(index * bufferBytes), 0]
}
/** Stores a value under a number from 0 up, so that it can be read more than once. */
export const set = (name: number, value: Code): Code => [...value, 0x21, firstValue + name]
export const get = (name: number): Code => [0x20, firstValue + name]
/** Adds bits to the flags that decide what the kernel returns. */
export const flag = (value: Code): Code => [0x20, 4, ...value, ...simd(0x50), 0x21, 4]

/** Runs over `values` floats, rounded up to a multiple of four; returns true if any bit was flagged. */
export type Kernel = (values: number, first: number, second: number) => boolean

export interface SimdModule<Name extends string> {
  readonly kernels: Readonly<Record<Name, Kernel>>
  /** The memory of the buffers: buffer i starts at i × bufferBytes. */
  readonly memory: ArrayBuffer
}

export interface KernelSource<Name extends string> {
  /** Runs once per call; what `set` stores here stays for the whole loop. */
  readonly setup: Code
  readonly bodies: Readonly<Record<Name, Code>>
  /** How many buffers the bodies use. */
  readonly buffers: number
  /** How many different numbers `set` uses. */
  readonly values: number
}

export function assemble<Name extends string>(source: KernelSource<Name>): SimdModule<Name> {
  const names = Object.keys(source.bodies) as Name[]
  const module = new WebAssembly.Module(Uint8Array.from(encodeModule(names, source)))
  const { exports } = new WebAssembly.Instance(module)
  const kernels = names.map((name): [Name, Kernel] => {
    const run = Reflect.get(exports, name) as (bytes: number, first: number, second: number) => number
    return [name, (count, first, second) => run(count * 4, first, second) !== 0]
  })
  return { kernels: Object.fromEntries(kernels) as Record<Name, Kernel>, memory: exports.memory.buffer }
}

function encodeModule(names: readonly string[], source: KernelSource<string>): number[] {
  const bodies = Object.values(source.bodies)
  const text = (value: string): number[] => [...unsigned(value.length), ...Buffer.from(value)]
  const list = (entries: readonly (readonly number[])[]): number[] => [...unsigned(entries.length), ...entries.flat()]
  const sized = (content: readonly number[]): number[] => [...unsigned(content.length), ...content]
  const section = (id: number, entries: readonly (readonly number[])[]): number[] => [id, ...sized(list(entries))]
  const pages = Math.ceil((source.buffers * bufferBytes) / 65536)
  const magicAndVersion = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return [
    ...magicAndVersion,
    ...section(1, [[0x60, ...list([[I32], [F32], [F32]]), ...list([[I32]])]]),
    ...section(
      3,
      bodies.map(() => [0]),
    ),
    ...section(5, [[0, pages]]),
    ...section(7, [[...text('memory'), 2, 0], ...names.map((name, index) => [...text(name), 0, ...unsigned(index)])]),
    ...section(
      10,
      bodies.map((body) => sized(encodeFunction(source.setup, body, source.values))),
    ),
  ]
}

function encodeFunction(setup: Code, body: Code, values: number): number[] {
  const locals = [2, 1, I32, ...unsigned(1 + values), V128]
  const loop = [0x03, 0x40]
  /** place += 16, and again while it is below the bytes. */
  const next = [0x20, 3, 0x41, 16, 0x6a, 0x22, 3, 0x20, 0, 0x49, 0x0d, 0]
  const end = 0x0b
  const anyFlag = [0x20, 4, ...simd(0x53)]
  return [...locals, ...setup, ...loop, ...body, ...next, end, ...anyFlag, end]
}
