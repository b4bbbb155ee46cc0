import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BatchProfile } from './batch-profile.ts'
import { ProfileCache } from './profile-cache.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-profile-'))
})
afterAll(() => rm(folder, { recursive: true }))

function measured(): BatchProfile {
  const profile = new BatchProfile()
  for (let step = 0; step < 8; step++) profile.observe('8x8+40', 1, 12.5)
  return profile
}
const timesOf = async (dir: string, identity: readonly unknown[]) => {
  const profile = new BatchProfile()
  const cache = await ProfileCache.open(dir, identity, profile)
  await cache.close()
  return profile.toTimes()
}

describe('step times on disk', () => {
  it('are found again for the same model and device, and for no other', async () => {
    const dir = join(folder, 'made on demand')
    await (await ProfileCache.open(dir, ['hash', 'cpu'], measured())).close()
    expect(await timesOf(dir, ['hash', 'cpu'])).toEqual({ '8x8+40': { 1: 12.5 } })
    expect(await timesOf(dir, ['other', 'cpu'])).toEqual({})
    expect(await timesOf(dir, ['hash', 'cuda'])).toEqual({})
  })

  it('that are damaged are measured again and replaced', async () => {
    const dir = join(folder, 'damaged')
    await (await ProfileCache.open(dir, [], measured())).close()
    const [file] = await readdir(dir)
    for (const text of ['', '{"version":1,"stepMs":{"a":{"0":1}}}', '{"version":2,"stepMs":{}}']) {
      await writeFile(join(dir, file as string), text)
      expect(await timesOf(dir, [])).toEqual({})
      await (await ProfileCache.open(dir, [], measured())).close()
      expect(await timesOf(dir, [])).toEqual({ '8x8+40': { 1: 12.5 } })
    }
    expect(await readdir(dir)).toEqual([file])
  })

  it('are there after a save, even if another save had begun', async () => {
    const cache = await ProfileCache.open(join(folder, 'at once'), [], measured())
    void cache.save()
    await cache.save()
    expect(existsSync(cache.file)).toBe(true)
    await cache.close()
  })

  it('are not kept where nothing can be written, and that is no error', async () => {
    const file = join(folder, 'file')
    await writeFile(file, '')
    for (const nowhere of [join(file, 'below'), '/proc/easel', '/proc/easel/below']) {
      await (await ProfileCache.open(nowhere, [], measured())).close()
      expect(await timesOf(nowhere, [])).toEqual({})
    }
  })
})
