import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { openCacheDir } from './open-cache-dir.ts'

const lines: { msg: string }[] = []
const logger = pino({}, { write: (line) => lines.push(JSON.parse(line) as { msg: string }) })

test('CACHE_DIR is created with the folders above it, and stays', async () => {
  const above = await mkdtemp(join(tmpdir(), 'easel-cache-'))
  const named = join(above, 'a', 'b')
  const { dir, remove } = await openCacheDir(named, logger)
  expect(dir).toBe(named)
  await remove()
  expect(existsSync(named)).toBe(true)
  expect(lines).toEqual([])
  await rm(above, { recursive: true })
})

test('without CACHE_DIR, or if it cannot be created, which is logged, the folder lives as long as the process', async () => {
  for (const named of [undefined, '/proc/easel/below', '/dev/null/below']) {
    lines.length = 0
    const { dir = '', remove } = await openCacheDir(named, logger)
    expect(existsSync(dir)).toBe(true)
    await remove()
    expect(existsSync(dir)).toBe(false)
    expect(lines.map(({ msg }) => msg)).toEqual(named === undefined ? [] : ['CACHE_DIR cannot be used; measurements end with this process'])
  }
})
