import { describe, expect, test } from 'vitest'
import { createKeys, generateQueueName, isJobId, jobIdCreatedAt } from './keys.ts'

const id = '0197a1b2-c3d4-7abc-8def-0123456789ab'

describe('keys', () => {
  test('every key begins with the prefix, so that a hash tag puts all of them into one slot', () => {
    const names = Object.values(createKeys('{x}')).map((key: string | ((...parts: string[]) => string)) =>
      typeof key === 'string' ? key : key('a', 'b'),
    )
    for (const name of names) expect(name.startsWith('{x}:')).toBe(true)
    // Keys of different kinds never meet.
    expect(new Set(names).size).toBe(names.length)
  })

  test('plain characters of a model id are in its queue name as they are, and all others are written in plain ones', () => {
    expect(generateQueueName('Tiny_scenes-3.5')).toBe('generate-Tiny_scenes-3.5')
    expect(generateQueueName('stabilityai/sd:3')).toBe('generate-stabilityai~2f~sd~3a~3')
  })

  test('no two model ids have the same queue name', () => {
    const ids = ['a/b', 'a_b', 'a:b', 'a b', 'a~b', 'a~2f~b', 'a2fb', '/a', '馬', '鹿', '\u{1f40e}', '\u{1f98c}', '\ud83d', '\ud83e']
    const names = ids.map(generateQueueName)
    expect(new Set(names).size).toBe(ids.length)
    for (const name of names) expect(name).toMatch(/^generate-[\w.~-]+$/)
  })

  test('only lower-case UUIDs of version 7 are job ids', () => {
    expect(isJobId(id)).toBe(true)
    for (const bad of ['', id.toUpperCase(), `${id}x`, id.replace('-7', '-4'), '../../etc/passwd']) expect(isJobId(bad)).toBe(false)
  })

  test('the first 48 bits of a job id are the instant of its creation', () => {
    expect(jobIdCreatedAt(id)).toBe(0x0197a1b2c3d4)
  })
})
