/** What commands say and how they end. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { easel } from './easel-command.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-commands-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test('draw writes pictures where it was typed; the same seed draws the same picture', async () => {
  const two = await easel(['draw', 'a red boat on the sea', '--seed', '5', '-n', '2', '--steps', '3', '-o', 'boat.png', '--json'], {
    cwd: folder,
  }).ended
  expect(two.code).toBe(0)
  expect(JSON.parse(two.stdout)).toEqual(
    [5, 6].map((seed, index) => ({ file: join(folder, `boat-${index}.png`), width: 128, height: 128, seed })),
  )
  expect(two.stderr).toMatch(/3\/3 done/)
  const one = await easel(['draw', 'a red boat on the sea', '--seed', '6', '--steps', '3', '-o', 'again.png'], { cwd: folder }).ended
  expect(one.stdout).toContain(`${join(folder, 'again.png')}  (128 × 128, seed 6)`)
  const pixels = async (file: string) =>
    await sharp(await readFile(join(folder, file)))
      .raw()
      .toBuffer()
  expect((await pixels('again.png')).equals(await pixels('boat-1.png'))).toBe(true)
})

test.each([
  { args: ['--help'], code: 0, says: /Commands:[^]*draw[^]*pull[^]*Exit codes/ },
  { args: ['draw', '--help'], code: 0, says: /--seed[^]*--size/ },
  { args: ['paint'], code: 2, says: /unknown command 'paint'/ },
  { args: ['draw'], code: 2, says: /missing required argument 'prompt'/ },
  { args: ['draw', 'x', '--size', 'large'], code: 2, says: /Expected pixels, as in 1024x768 or 512/ },
  { args: ['draw', 'x', '--seed', '-1'], code: 2, says: /seed/ },
  { args: ['draw', 'x', '-o', 'x.gif'], code: 1, says: /^Expected a file that ends in \.png, \.jpg, \.jpeg, \.webp, got x\.gif$/m },
  { args: ['draw', 'x', '--size', '100'], code: 1, says: /Expected (width|height) to be divisible by 16/ },
  { args: ['draw', 'x', '--model', 'nothing'], code: 1, says: /Expected model "nothing" to be a preset/ },
  { args: ['pull', 'nothing'], code: 1, says: /Expected a model: a preset/ },
  { args: ['rm', 'tiny-scenes'], code: 1, says: /comes with Easel and stays/ },
])('easel $args ends with $code', async ({ args, code, says }) => {
  const ended = await easel(args, { cwd: folder }).ended
  expect(ended.stdout + ended.stderr).toMatch(says)
  expect(ended.code).toBe(code)
  expect(ended.stderr).not.toMatch(/^ +at /m)
})
