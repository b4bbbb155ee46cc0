import { expect, test } from 'vitest'
import { deleteOneByOne } from './delete-one-by-one.ts'
import { StorageError } from './storage-error.ts'

const keys = Array.from({ length: 100 }, (_, index) => `${index}.png`)

test('every key is removed once, many at a time, and the failure of one stops none of the others', async () => {
  const removed: string[] = []
  let [underWay, most] = [0, 0]
  const failures = await deleteOneByOne(keys, async (key) => {
    most = Math.max(most, ++underWay)
    await Promise.resolve()
    underWay--
    removed.push(key)
    if (key === '3.png' || key === '70.png') throw new StorageError('denied', `no ${key}`)
  })
  expect(removed.toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))).toEqual(keys)
  expect(most).toBe(32)
  expect([...failures].map(([key, { message }]) => [key, message])).toEqual([
    ['3.png', 'no 3.png'],
    ['70.png', 'no 70.png'],
  ])
})

test('an error that is not the store’s is a bug and rejects', async () => {
  const bug = new TypeError('a bug')
  await expect(
    deleteOneByOne(keys, async () => {
      throw bug
    }),
  ).rejects.toBe(bug)
})
