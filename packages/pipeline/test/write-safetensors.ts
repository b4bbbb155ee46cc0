/** Writes .safetensors files for tests, valid and invalid ones. */
import { writeFileSync } from 'node:fs'

export interface WrittenTensor {
  dtype: string
  shape: number[]
  data: Uint8Array
}

/** Writes the tensors one after another, as the format requires. */
export function writeSafetensors(file: string, tensors: Record<string, WrittenTensor>, metadata: Record<string, string> = {}): void {
  let end = 0
  const header: Record<string, unknown> = { __metadata__: metadata }
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [end, end + data.length] }
    end += data.length
  }
  writeRaw(file, JSON.stringify(header), Buffer.concat(Object.values(tensors).map(({ data }) => data)))
}

/** Writes any text as the header, with any length before it. */
export function writeRaw(file: string, header: string, data: Uint8Array, headerLength = Buffer.byteLength(header)): void {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(headerLength))
  writeFileSync(file, Buffer.concat([length, Buffer.from(header), data]))
}
