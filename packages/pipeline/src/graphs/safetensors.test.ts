import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeRaw, writeSafetensors } from '../../test/write-safetensors.ts'
import { readSafetensorsHeader } from './safetensors.ts'

const folder = mkdtempSync(join(tmpdir(), 'easel-safetensors-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
const newFile = () => join(folder, `${files++}.safetensors`)

describe('readSafetensorsHeader', () => {
  it('says where each tensor lies in the file that a link leads to', async () => {
    const file = newFile()
    writeSafetensors(file, {
      a: { dtype: 'F32', shape: [2, 3], data: new Uint8Array(24) },
      scalar: { dtype: 'BF16', shape: [], data: new Uint8Array(2) },
      empty: { dtype: 'F16', shape: [0, 7], data: new Uint8Array(0) },
      'what ever it is': { dtype: 'F4_NEW', shape: [3], data: new Uint8Array(5) },
    })
    const link = newFile()
    symlinkSync(file, link)
    const tensors = await readSafetensorsHeader(link)
    const start = tensors.get('a')!.offset
    expect(Object.fromEntries(tensors)).toEqual({
      a: { file, dtype: 'F32', shape: [2, 3], offset: start, length: 24 },
      scalar: { file, dtype: 'BF16', shape: [], offset: start + 24, length: 2 },
      empty: { file, dtype: 'F16', shape: [0, 7], offset: start + 26, length: 0 },
      'what ever it is': { file, dtype: 'F4_NEW', shape: [3], offset: start + 26, length: 5 },
    })
  })

  it('names a file that is missing or a folder', async () => {
    await expect(readSafetensorsHeader(join(folder, 'absent.safetensors'))).rejects.toThrow(
      /absent\.safetensors: expected a readable .* no such file/,
    )
    mkdirSync(join(folder, 'folder.safetensors'))
    await expect(readSafetensorsHeader(join(folder, 'folder.safetensors'))).rejects.toThrow(/folder\.safetensors: expected/)
  })

  it('reads a header of 16 MiB and refuses a longer one before reading it', async () => {
    const file = newFile()
    const cap = 16 * 2 ** 20
    const header = JSON.stringify({ a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } })
    writeRaw(file, header.padEnd(cap), new Uint8Array(4))
    expect([...(await readSafetensorsHeader(file)).keys()]).toEqual(['a'])
    // The rest of the file is a hole, so nothing can be read there but zeros.
    writeRaw(file, header, new Uint8Array(4), cap + 1)
    truncateSync(file, 4 * cap)
    await expect(readSafetensorsHeader(file)).rejects.toThrow(`${file}: expected the header to be at most ${cap} bytes, got ${cap + 1}`)
  })

  const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({ dtype: 'F32', shape, data_offsets: [begin, end] })
  it.each<[string, string, number, RegExp]>([
    [
      'tensors that overlap',
      JSON.stringify({ a: f32(0, 8), b: f32(4, 12) }),
      12,
      /expected tensor b to be at byte 8 of the data, got byte 4/,
    ],
    ['a gap', JSON.stringify({ a: f32(0, 8), b: f32(12, 16) }), 16, /expected tensor b to be at byte 8 .* got byte 12/],
    [
      'an end before the beginning',
      JSON.stringify({ a: f32(0, 8), b: { ...f32(8, 12), data_offsets: [8, 4] } }),
      12,
      /expected tensor b to be/,
    ],
    ['a tensor beyond the end', JSON.stringify({ a: f32(0, 400) }), 8, /expected the data to be 400 bytes, as the header says, got 8/],
    ['more data than tensors', JSON.stringify({ a: f32(0, 8) }), 9, /expected the data to be 8 bytes, as the header says, got 9/],
    [
      'fewer bytes than the shape needs',
      JSON.stringify({ a: f32(0, 8, [3]) }),
      8,
      /expected tensor a to be 12 bytes long, as F32 of shape \[3\], got 8/,
    ],
    ['a shape too large for any file', JSON.stringify({ a: f32(0, 8, [2 ** 40, 2 ** 40]) }), 8, /expected tensor a to be .* bytes long/],
    ['a negative length', JSON.stringify({ a: f32(0, 8, [-2]) }), 8, /expected tensor a to be a dtype, a shape and two data_offsets/],
    [
      'an offset that is not a whole number',
      JSON.stringify({ a: { ...f32(0, 8), data_offsets: [0, 8.5] } }),
      8,
      /expected tensor a to be a dtype/,
    ],
    ['an offset that is text', JSON.stringify({ a: { ...f32(0, 8), data_offsets: ['0', '8'] } }), 8, /expected tensor a to be a dtype/],
    ['a tensor without a dtype', JSON.stringify({ a: { shape: [2], data_offsets: [0, 8] } }), 8, /expected tensor a to be a dtype/],
    [
      'a tensor named twice',
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}',
      12,
      /tensor a to be at byte 0/,
    ],
    ['a list as header', '[]', 0, /expected the header to be a JSON object, got \[\]/],
    ['a header that is not JSON', '{"a":', 0, /expected the header to be JSON/],
    [
      'tensors named like prototypes',
      '{"__proto__":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}}',
      8,
      /expected tensor __proto__ to be 36 bytes/,
    ],
  ])('refuses %s', async (_, header, dataBytes, message) => {
    const file = newFile()
    writeRaw(file, header, new Uint8Array(dataBytes))
    await expect(readSafetensorsHeader(file)).rejects.toThrow(message)
    await expect(readSafetensorsHeader(file)).rejects.toThrow(file)
  })

  it('refuses a header that is not UTF-8', async () => {
    const file = newFile()
    const header = Buffer.from('{"\xff":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', 'latin1')
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    writeFileSync(file, Buffer.concat([length, header]))
    await expect(readSafetensorsHeader(file)).rejects.toThrow(/expected the header to be JSON/)
  })

  it.each([
    ['an empty file', 0, /expected at least 8 bytes, got 0/],
    ['a file of a few bytes', 5, /expected at least 8 bytes, got 5/],
  ])('refuses %s', async (_, bytes, message) => {
    const file = newFile()
    writeFileSync(file, new Uint8Array(bytes))
    await expect(readSafetensorsHeader(file)).rejects.toThrow(message)
  })

  it('refuses a header length beyond the end of the file, without taking memory for it', async () => {
    const file = newFile()
    writeRaw(file, '{}', new Uint8Array(0), 2 ** 40)
    await expect(readSafetensorsHeader(file)).rejects.toThrow(/expected the header to be at most 2 bytes, got 1099511627776/)
  })
})
