import { createHash } from 'node:crypto'
import sharp from 'sharp'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { inspectPicture } from '@easel/input-pictures'
import { uniquePng } from '../../../test/pictures.ts'
import { startTestApi, tinyScenes } from '../../../test/start-api.ts'
import type { TestApi } from '../../../test/start-api.ts'
import { toMaskOfAlpha } from '../../inputs/mask-of-alpha.ts'
import type { OpenAiError } from './errors.ts'

// The real function runs; the mock only counts its calls.
vi.mock('@easel/input-pictures', async (importOriginal) => {
  const real = await importOriginal<{ inspectPicture: typeof inspectPicture }>()
  return { ...real, inspectPicture: vi.fn(real.inspectPicture) }
})
const decoded = vi.mocked(inspectPicture)
beforeEach(() => {
  decoded.mockClear()
})

let api: TestApi
let picture: File
beforeAll(async () => {
  api = await startTestApi({ env: { INFERENCE_WAIT: '1' }, model: { ...tinyScenes, has_vae_encoder: true } })
  picture = new File([new Uint8Array(await uniquePng())], 'picture.png')
})
afterAll(async () => {
  await api.close()
})

/** The status, and the field that was refused. A job that was made never ends, so its status is 504. */
async function edit(...texts: [string, string | File][]): Promise<[number, string | null]> {
  const form = new FormData()
  for (const [name, value] of [['image', picture], ['prompt', 'a'], ...texts] as const) form.append(name, value)
  const response = await api.get('/v1/images/edits', { method: 'POST', body: form })
  return [response.status, ((await response.json()) as OpenAiError).error.param]
}

test.each([
  ['a name that every object has', 'constructor', [['constructor[]', 'x']]],
  ['the name of the prototype', '__proto__', [['__proto__', 'x']]],
  ['a list by that name', '__proto__', [['__proto__[]', 'x']]],
  [
    'one value and a list of the same name',
    'n',
    [
      ['n', '1'],
      ['n[]', '2'],
    ],
  ],
  ['a list in a list', 'sigmas.0', [['sigmas[]', '[1]']]],
  ['text for the picture', 'image', [['image', 'upload:1']]],
  ['text for the mask', 'mask', [['mask[]', 'x']]],
  ['a LoRA that the model lacks', 'loras', [['loras', '[{"id":"none"}]']]],
] as [string, string, [string, string][]][])('a form is refused with the name of the field: %s', async (_, param, texts) => {
  expect(await edit(...texts)).toEqual([400, param])
})

test('a list may be sent entry by entry', async () => {
  expect(await edit(['sigmas[]', '1'], ['sigmas[]', '0.5'])).toEqual([504, null])
  const [record] = await api.worker.store.list('', { limit: 1 })
  expect(record?.input.sigmas).toEqual([1, 0.5])
})

test('each file of a form is decoded once and checked', async () => {
  const clear = { create: { width: 64, height: 64, channels: 4, background: '#0000' } } as const
  const transparent = new File([new Uint8Array(await sharp(clear).png().toBuffer())], 'mask.png')
  const broken = new File([(await picture.bytes()).subarray(0, -20)], 'broken.png')
  expect(await edit()).toEqual([504, null])
  expect(decoded).toHaveBeenCalledTimes(1)
  expect(await edit(['mask', transparent])).toEqual([504, null])
  expect(decoded).toHaveBeenCalledTimes(3)
  const [record] = await api.worker.store.list('', { limit: 1 })
  expect(record?.input).toMatchObject({
    image: { width: 64, height: 64, content_type: 'image/png', bytes: picture.size },
    mask: { width: 64, height: 64, content_type: 'image/png' },
  })
  for (const name of ['image', 'mask'] as const) {
    const stored = await api.deps.storage.open(`inputs/${record?.input[name]?.sha256}`)
    const bytes = Buffer.from(await new Response(stored?.body).arrayBuffer())
    expect([bytes.length, createHash('sha256').update(bytes).digest('hex')]).toEqual([
      record?.input[name]?.bytes,
      record?.input[name]?.sha256,
    ])
  }
  expect(await edit(['mask', broken])).toEqual([400, 'mask'])
})

test('all edits are served even if more arrive at once than there are places for pictures', async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, async () => await edit()))
  expect(answers).toEqual(answers.map(() => [504, null]))
})

test('a mask made from the transparency of a rotated picture is already upright', async () => {
  // As stored, its left half is transparent; as shown, that is the upper half.
  const [width, height] = [64, 32]
  const pixels = Buffer.from(Array.from({ length: width * height }, (_v, i) => [9, 9, 9, i % width < width / 2 ? 0 : 255]).flat())
  const turned = sharp(pixels, { raw: { width, height, channels: 4 } }).withMetadata({ orientation: 6 })
  const mask = await toMaskOfAlpha(await turned.png().toBuffer())
  const { data, info } = await sharp(mask?.bytes).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true })
  expect([info.width, info.height, info.channels]).toEqual([height, width, 1])
  expect(data.subarray(0, data.length / 2).every((value) => value === 255)).toBe(true)
  expect(data.subarray(data.length / 2).every((value) => value === 0)).toBe(true)
})
