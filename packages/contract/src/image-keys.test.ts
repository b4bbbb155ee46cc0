import { expect, test } from 'vitest'
import { imageKey, parseImageFileName, thumbnailKey, toImageKeys } from './image-keys.ts'

const id = '0197a1b2-c3d4-7abc-8def-0123456789ab'

test('the objects of a job are its pictures and their thumbnails, and each is found by its file name', () => {
  for (const format of ['png', 'jpeg', 'webp'] as const) {
    const keys = toImageKeys({ id, input: { num_images_per_prompt: 10, output_format: format } })
    expect(new Set(keys).size).toBe(20)
    for (let n = 0; n < 10; n++) {
      expect(keys).toContain(imageKey(id, n, format))
      expect(keys).toContain(thumbnailKey(id, n))
    }
    for (const key of keys) expect(parseImageFileName(key.replace('images/', ''))).toEqual({ id, key })
  }
})

test('no other name is that of an image file', () => {
  const ofPictures = [`${id}-01.png`, `${id}-0.gif`, `${id}.png`, `../${id}-0.png`, `${id}-0.png/..`, `${id}-100.png`, `x${id}-0.png`]
  const ofThumbnails = [`${id}-0.thumb.png`, `${id}-0.thumb`, `${id}.thumb.webp`, `${id}-0.thumb.thumb.webp`, `${id}-0.thumbxwebp`]
  for (const bad of [...ofPictures, ...ofThumbnails, `${id.replace('-7', '-4')}-0.png`]) expect(parseImageFileName(bad)).toBeUndefined()
})
