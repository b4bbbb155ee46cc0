/** Follows the pages whose commands start the service, or install or pull something, with Node 20 from a fresh clone, each in a home folder of its own. */
import { expect, test } from 'vitest'
import { findNode20 } from '../packages/empty-project.ts'
import { commandPages } from './pages.ts'
import { openReader } from './reader.ts'

test.each(Object.entries(commandPages))('%s works from its first line to its last', async (page, followed) => {
  const reader = await openReader({ nodeFolder: await findNode20(), limitMs: 280_000 })
  try {
    const out = await reader.follow(page, followed)
    for (const line of followed.says) expect(out).toMatch(line)
    expect(followed.leaves?.filter((file) => !reader.has(file)) ?? []).toEqual([])
  } finally {
    await reader.close()
  }
})
