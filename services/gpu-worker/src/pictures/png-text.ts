/**
 * Text chunks in a PNG file, before the pixels. ASCII text goes into tEXt and any other into iTXt (tEXt is Latin-1, but some readers take it
 * for UTF-8), never compressed, as readers expect. sharp reads such chunks but does not write them, and it stores XMP compressed, against the
 * standard. Pure.
 */
import { crc32 } from 'node:zlib'

export interface PngText {
  /** 1 to 79 characters of printable ASCII. */
  keyword: string
  text: string
  /** Whether to write iTXt whatever the text is. Default false. */
  international?: boolean
}

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
/** The signature and the IHDR chunk, which must come first. */
const headerLength = signature.length + 25
/** Printable ASCII and the line feed. */
const ascii = /^[\n\x20-\x7e]*$/

export function insertPngTexts(png: Buffer, texts: readonly PngText[]): Buffer {
  if (!png.subarray(0, signature.length).equals(signature)) throw new TypeError('Expected a PNG file, got something else')
  return Buffer.concat([png.subarray(0, headerLength), ...texts.map(toChunk), png.subarray(headerLength)])
}

function toChunk({ keyword, text, international = false }: PngText): Buffer {
  // A zero byte would end the text.
  const whole = text.replaceAll('\0', '\ufffd')
  if (!international && ascii.test(whole)) return frame('tEXt', Buffer.from(`${keyword}\0${whole}`, 'latin1'))
  // After the keyword: not compressed, no method, no language, no translated keyword
  return frame('iTXt', Buffer.concat([Buffer.from(keyword, 'latin1'), Buffer.alloc(5), Buffer.from(whole, 'utf8')]))
}

/** The length, the type, the data, and a checksum of type and data. */
function frame(type: string, data: Buffer): Buffer {
  const typed = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const chunk = Buffer.alloc(typed.length + 8)
  chunk.writeUInt32BE(data.length, 0)
  typed.copy(chunk, 4)
  chunk.writeUInt32BE(crc32(typed), typed.length + 4)
  return chunk
}
