/** Reads files back with ExifReader, which shares no code with the writer, and with sharp. */
import { crc32 } from 'node:zlib'
import { load } from 'exifreader'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import type { ImageFormat, ImageMetadataLevel, JobInput, Provenance } from '@easel/contract'
import { describeImage } from './describe-image.ts'
import { encodeImage } from './encode-image.ts'
import type { EncodeOptions } from './encode-image.ts'
import { insertPngTexts } from './png-text.ts'

const generatedMedia = 'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'
const [width, height] = [48, 32]
const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7) % 251)
const input: JobInput = {
  model: 'tiny-scenes',
  prompt: 'a red boat on the sea',
  negative_prompt: 'a box',
  width: 128,
  height: 128,
  num_inference_steps: 20,
  guidance_scale: 4,
  num_images_per_prompt: 2,
  seed: 42,
  max_sequence_length: 20,
  output_format: 'png',
}
const line =
  'Steps: 20, Sampler: Euler, CFG scale: 4, Seed: 42, Size: 128x128, Model hash: 0123456789, Model: tiny-scenes, Max sequence length: 20'

function made(metadata: ImageMetadataLevel): Provenance {
  return {
    model: { id: 'tiny-scenes', content_hash: '0123456789abcdef' },
    runtime: 'onnxruntime-node 1.30.0',
    provider: 'cpu',
    platform: 'linux-x64',
    processor: 'a processor',
    scheduler: { class: 'FlowMatchEulerDiscreteScheduler', config: { shift: 3 } },
    encoder: { name: 'sharp', png_compression_level: 6, metadata },
  }
}

interface FileOptions extends Partial<Omit<EncodeOptions, 'description'>> {
  metadata?: ImageMetadataLevel
  index?: number
}

function fileOf(more: Partial<JobInput> = {}, { metadata = 'full', index = 0, ...options }: FileOptions = {}): Promise<Buffer> {
  const description = describeImage({ ...input, ...more }, index, made(metadata))
  return encodeImage({ index, width, height, rgb }, { format: 'png', pngCompressionLevel: 6, quality: 90, description, ...options })
}

interface Read {
  /** The text that says how the picture was made. */
  parameters: string | undefined
  sourceType: string | undefined
}

function read(file: Buffer): Read {
  const { pngText, xmp } = load(file, { expanded: true })
  const parameters = pngText?.['parameters'] ?? xmp?.['UserComment']
  return { parameters: parameters?.description, sourceType: xmp?.['DigitalSourceType']?.description }
}

const formats: readonly ImageFormat[] = ['png', 'jpeg', 'webp']

describe.for(formats)('a %s', (format) => {
  test('says how it was made, and that a model made it', async () => {
    const { parameters, sourceType } = read(await fileOf({}, { format }))
    expect(parameters).toBe(`a red boat on the sea\nNegative prompt: a box\n${line}`)
    expect(sourceType).toBe(generatedMedia)
  })

  test.for(['日本の港 🚤, “quoted” <b>&amp;</b>', 'café á la crème', 'first line\nsecond: line', 'Привет'])(
    'keeps the prompt %j as it was',
    async (prompt) => {
      const { parameters } = read(await fileOf({ prompt, prompt_3: prompt }, { format }))
      const quoted = /[,:\n"]/.test(prompt) ? JSON.stringify(prompt) : prompt
      expect(parameters).toBe(`${prompt}\nNegative prompt: a box\n${line}, Prompt 3: ${quoted}`)
    },
  )

  test('without prompts has the settings and the mark, and no word of any prompt', async () => {
    const words = { prompt: 'secretA', prompt_2: 'secretB', prompt_3: 'secretC', negative_prompt: 'secretD' }
    const more = { negative_prompt_2: 'secretE', negative_prompt_3: 'secretF' }
    const file = await fileOf({ ...words, ...more }, { format, metadata: 'no-prompts' })
    expect(read(file)).toEqual({ parameters: line, sourceType: generatedMedia })
    expect(file.includes('secret')).toBe(false)
    expect((await fileOf({ ...words, ...more }, { format })).includes('secretF')).toBe(true)
  })

  test('with no metadata contains none', async () => {
    const file = await fileOf({}, { format, metadata: 'none' })
    const { xmp, exif, comments } = await sharp(file).metadata()
    expect([xmp, exif, comments]).toEqual([undefined, undefined, undefined])
    expect(file.includes('Steps')).toBe(false)
  })

  test('has the same bytes each time, and the same pixels as one without metadata', async () => {
    const [first, second, bare] = await Promise.all([
      fileOf({}, { format }),
      fileOf({}, { format }),
      fileOf({}, { format, metadata: 'none' }),
    ])
    expect(first.equals(second)).toBe(true)
    const pixels = (file: Buffer): Promise<Buffer> => sharp(file).raw().toBuffer()
    expect((await pixels(first)).equals(await pixels(bare))).toBe(true)
    const drawn = format === 'png' ? Buffer.from(rgb) : await pixels(bare)
    expect((await pixels(first)).equals(drawn)).toBe(true)
  })

  test('with the longest prompts is written and has its mark', async () => {
    const long = '&🏠\u0001'.repeat(1333)
    const file = await fileOf({ prompt: long, prompt_2: long, prompt_3: long, negative_prompt: long }, { format })
    const { sourceType, parameters } = read(file)
    expect(sourceType).toBe(generatedMedia)
    // A JPEG has no room for such a text.
    expect(parameters?.includes('&🏠')).toBe(format === 'jpeg' ? undefined : true)
    expect(await sharp(file).metadata()).toMatchObject({ format, width, height })
  })
})

test.for(['jpeg', 'webp'] as const)('%s files grow with quality, and have the same metadata at each', async (format) => {
  const files = await Promise.all([1, 50, 90, 100].map((quality) => fileOf({}, { format, quality })))
  const sizes = files.map(({ length }) => length)
  expect(sizes).toEqual(sizes.toSorted((a, b) => a - b))
  expect(new Set(sizes).size).toBe(sizes.length)
  for (const file of files) expect(read(file)).toEqual(read(files[0] ?? file))
})

test('each picture of a job carries the seed with which it can be made alone', async () => {
  expect(read(await fileOf({}, { index: 1 })).parameters).toContain('Seed: 43,')
  expect((await fileOf({ seed: 43 })).equals(await fileOf({}, { index: 1 }))).toBe(true)
})

test('settings for which image tools have no name are in the same line, quoted where necessary', async () => {
  const { parameters } = read(await fileOf({ clip_skip: 1, guidance_interval: [0.1, 0.8], sigmas: [1, 0.5], prompt_2: 'a: b, "c"' }))
  const settings = parameters?.split('\n').at(-1)
  expect(settings).toBe(
    `${line.replace('Max', 'Clip skip: 2, Max')}, Guidance interval: "0.1, 0.8", Sigmas: "1, 0.5", Prompt 2: "a: b, \\"c\\""`,
  )
})

describe('a PNG text chunk', () => {
  test('is tEXt where ASCII suffices, else iTXt, and sharp reads both', async () => {
    const [plain, other] = [await fileOf({ prompt: 'a cafe' }), await fileOf({ prompt: 'café 中' })]
    expect([plain.includes('tEXtparameters\0'), plain.includes('iTXtparameters')]).toEqual([true, false])
    expect([other.includes('tEXtparameters'), other.includes('iTXtparameters\0\0\0\0\0')]).toEqual([false, true])
    for (const [file, prompt] of [
      [plain, 'a cafe'],
      [other, 'café 中'],
    ] as const) {
      const text = (await sharp(file).metadata()).comments?.find(({ keyword }) => keyword === 'parameters')?.text
      expect(text?.split('\n')[0]).toBe(prompt)
    }
  })

  test('follows the header, has the right length and checksum, and is not added to anything but a PNG', async () => {
    const file = await fileOf({ prompt: '中' })
    const types: string[] = []
    for (let at = 8; at < file.length;) {
      const typed = file.subarray(at + 4, at + 8 + file.readUInt32BE(at))
      types.push(typed.toString('latin1', 0, 4))
      at += 8 + typed.length
      expect(file.readUInt32BE(at - 4)).toBe(crc32(typed))
    }
    expect([types.slice(0, 3), types.at(-1)]).toEqual([['IHDR', 'iTXt', 'iTXt'], 'IEND'])
    expect(() => insertPngTexts(Buffer.from('GIF89a'), [])).toThrow('Expected a PNG file')
  })

  test('does not end at a zero byte of its text', async () => {
    expect(read(await fileOf({ prompt: 'a\0b' })).parameters).toMatch(/^a\ufffdb\n/)
  })
})
