/**
 * Where the tensors of a .safetensors file lie: reads and checks its header. The weights themselves are not read.
 *
 * Invariant: a file is untrusted. Every tensor returned lies inside its file, has exactly the bytes that its dtype and shape need, and shares
 * none of them with another tensor; a file that breaks this rule is refused as a whole.
 * Knows nothing about models. The format: https://huggingface.co/docs/safetensors (8 bytes length, a JSON header, the data).
 */
import { open, realpath } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { z } from 'zod'
import { describeValue, ModelFileError, sizeOfFile } from '../models/model-file.ts'
import { fromFloat16Bits } from '../tensor/float16.ts'

/** One tensor, or a contiguous part of one. */
export interface StoredTensor {
  /** Absolute path of the file, links resolved. */
  readonly file: string
  /** As written in the header: F32, F16, BF16 and others. */
  readonly dtype: string
  readonly shape: readonly number[]
  /** Offset in bytes from the start of the file. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
  /** The factor of the stored values, or the error that was found in it. Default 1. */
  readonly scale?: number | ModelFileError
}

const prefixBytes = 8
/** A header takes a few hundred kilobytes. The format allows a hundred million bytes, which would take half a minute and a gigabyte to check. */
const maxHeaderBytes = 16 * 2 ** 20

/** Bits per value. A file may contain dtypes that are not listed here, but no graph can use them. */
const dtypeBits = new Map(
  Object.entries({ BOOL: 8, U8: 8, I8: 8, F8_E4M3: 8, F8_E5M2: 8, I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32 }).concat(
    Object.entries({ I64: 64, U64: 64, F64: 64 }),
  ),
)

const count = z.int().nonnegative()
const entrySchema = z.object({ dtype: z.string(), shape: z.array(count).max(16), data_offsets: z.tuple([count, count]) })
type Entry = z.infer<typeof entrySchema>

export interface SafetensorsHeader {
  /** By name, in the order of their data. */
  readonly tensors: Map<string, StoredTensor>
  /** What the writer says about the file; not checked. */
  readonly metadata: Readonly<Record<string, unknown>>
}

/** The tensors of one file by name, in the order of their data. */
export async function readSafetensorsHeader(path: string): Promise<Map<string, StoredTensor>> {
  return (await readSafetensors(path)).tensors
}

export async function readSafetensors(path: string): Promise<SafetensorsHeader> {
  let handle: FileHandle | undefined
  try {
    const file = await realpath(path)
    const size = await sizeOfFile(file)
    handle = await open(file)
    const { header, dataStart } = await readHeader(handle, path, size)
    const entries = parseEntries(path, header)
    assertLayout(path, entries, size - dataStart)
    const tensors = new Map(
      entries.map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [begin, end],
          },
        ]) => [name, { file, dtype, shape, offset: dataStart + begin, length: end - begin }],
      ),
    )
    return { tensors, metadata: toMetadata(header) }
  } catch (error) {
    if (error instanceof ModelFileError) throw error
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw new ModelFileError(path, '', 'a readable .safetensors file', missing ? 'no such file' : (error as Error).message, {
      cause: error,
    })
  } finally {
    await handle?.close()
  }
}

async function readHeader(handle: FileHandle, path: string, size: number): Promise<{ header: unknown; dataStart: number }> {
  const prefix = await readBytes(handle, path, 0, prefixBytes)
  const length = prefix.readBigUInt64LE()
  if (length > BigInt(Math.min(maxHeaderBytes, size - prefixBytes)))
    throw new ModelFileError(path, 'the header', `at most ${Math.min(maxHeaderBytes, size - prefixBytes)} bytes`, `${length}`)
  const text = await readBytes(handle, path, prefixBytes, Number(length))
  try {
    return { header: JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text)), dataStart: prefixBytes + Number(length) }
  } catch (error) {
    throw new ModelFileError(path, 'the header', 'JSON', (error as Error).message, { cause: error })
  }
}

async function readBytes(handle: FileHandle, path: string, position: number, length: number): Promise<Buffer<ArrayBuffer>> {
  // Not from the pool, so that the ArrayBuffer holds exactly these bytes.
  const buffer = Buffer.from(new ArrayBuffer(length))
  const { bytesRead } = await handle.read(buffer, 0, length, position)
  if (bytesRead < length) throw new ModelFileError(path, '', `at least ${position + length} bytes`, `${position + bytesRead}`)
  return buffer
}

function parseEntries(path: string, header: unknown): [string, Entry][] {
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw new ModelFileError(path, 'the header', 'a JSON object', describeValue(header))
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]): [string, Entry] => {
      const parsed = entrySchema.safeParse(value)
      if (parsed.success) return [name, parsed.data]
      const expected = 'a dtype, a shape and two data_offsets of integers from 0 up'
      throw new ModelFileError(path, `tensor ${name}`, expected, describeValue(value, 120))
    })
    .sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1])
}

function toMetadata(header: unknown): Readonly<Record<string, unknown>> {
  const metadata = (header as { readonly __metadata__?: unknown }).__metadata__
  return typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : {}
}

/** Tensors must follow one another without gap or overlap, from the first byte to the last. `size`: length of the data in bytes. */
function assertLayout(path: string, entries: readonly [string, Entry][], size: number): void {
  let end = 0
  for (const [name, { dtype, shape, data_offsets: offsets }] of entries) {
    if (offsets[0] !== end) throw new ModelFileError(path, `tensor ${name}`, `at byte ${end} of the data`, `byte ${offsets[0]}`)
    end = offsets[1]
    const bits = dtypeBits.get(dtype)
    const bytes = bits === undefined ? undefined : (shape.reduce((product, length) => product * length, 1) * bits) / 8
    if (end < offsets[0] || (bytes !== undefined && end - offsets[0] !== bytes))
      throw new ModelFileError(
        path,
        `tensor ${name}`,
        `${bytes ?? 'some'} bytes long, as ${dtype} of shape [${shape.join(', ')}]`,
        `${end - offsets[0]}`,
      )
  }
  if (end !== size) throw new ModelFileError(path, 'the data', `${end} bytes, as the header says`, `${size}`)
}

/** The values of a tensor of F32, F16, BF16 or I64. `handle`: its file. */
export async function readValues(handle: FileHandle, { file, dtype, offset, length }: StoredTensor): Promise<Float32Array> {
  const { buffer } = await readBytes(handle, file, offset, length)
  if (dtype === 'F32') return new Float32Array(buffer)
  if (dtype === 'I64') return Float32Array.from(new BigInt64Array(buffer), Number)
  const bits = new Uint16Array(buffer)
  if (dtype === 'F16') return fromFloat16Bits(bits)
  // bfloat16 is the upper half of a float32.
  return new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer)
}
