/** What `easel doctor` reports on machines that lack something. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { findFreePort, startRedisProcess } from '@easel/redis-server'
import type { Finding } from '../src/doctor/finding.ts'
import { easel } from './easel-command.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-doctor-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function examine(env: Record<string, string>): Promise<{ code: number | null; findings: Finding[] }> {
  const variables = { STORAGE_DIR: join(folder, 'images'), DEVICE: 'cpu', ...env }
  const { code, stdout } = await easel(['doctor', '--json'], { cwd: folder, env: variables }).ended
  return { code, findings: JSON.parse(stdout) as Finding[] }
}

async function startRedis(args: string[], appendonly: boolean): Promise<string> {
  const port = await findFreePort()
  const redis = await startRedisProcess({ port, dir: join(folder, `redis-${port}`), args, appendonly })
  onTestFinished(() => redis.stop())
  return `redis://127.0.0.1:${port}`
}

test('a machine that has everything is reported as well', async () => {
  const { code, findings } = await examine({ REDIS_URL: await startRedis([], true) })
  expect(findings.filter(({ state }) => state !== 'ok')).toEqual([])
  expect(new Set(findings.map(({ subject }) => subject))).toEqual(new Set(['node', 'device', 'memory', 'redis', 'storage', 'models']))
  expect(code).toBe(0)
})

test('a Redis that forgets is a warning with the command that mends it, and one that evicts is a fault', async () => {
  const forgets = await examine({ REDIS_URL: await startRedis([], false) })
  expect(forgets.findings).toContainEqual(
    expect.objectContaining({ subject: 'redis', state: 'warn', mend: expect.stringContaining('appendonly yes') }),
  )
  expect(forgets.code).toBe(0)
  const evicts = await examine({ REDIS_URL: await startRedis(['--maxmemory-policy', 'allkeys-lru'], true) })
  expect(evicts.findings).toContainEqual(
    expect.objectContaining({ subject: 'redis', state: 'bad', says: expect.stringContaining('noeviction') }),
  )
  expect(evicts.code).toBe(1)
})

test('a missing model, a store that cannot be written to and a Redis that does not answer are each reported with the reason', async () => {
  await writeFile(join(folder, 'file'), '')
  const { code, findings } = await examine({ MODEL: 'nope', STORAGE_DIR: join(folder, 'file/images'), REDIS_URL: 'redis://127.0.0.1:1' })
  const bad = findings.filter(({ state }) => state === 'bad').map(({ subject }) => subject)
  expect(bad).toEqual(['redis', 'storage', 'MODEL'])
  expect(findings.find(({ subject }) => subject === 'MODEL')?.says).toContain('"nope"')
  expect(code).toBe(1)
})

test('CUDA, where it is requested, is complete or reported with what mends it', async () => {
  const { code, findings } = await examine({ DEVICE: 'cuda', REDIS_URL: await startRedis([], true) })
  const cuda = findings.filter(({ subject }) => subject === 'cuda')
  expect(cuda.length).toBeGreaterThan(0)
  expect(cuda.every(({ state, mend = '' }) => state === 'ok' || /install|setup cuda|Linux/.test(mend))).toBe(true)
  expect(code).toBe(cuda.every(({ state }) => state === 'ok') ? 0 : 1)
})

test('a pipe gets lines without colours, with what mends each fault below it', async () => {
  const { stdout } = await easel(['doctor'], {
    cwd: folder,
    env: { REDIS_URL: await startRedis([], false), STORAGE_DIR: join(folder, 'images'), DEVICE: 'cpu' },
  }).ended
  expect(stdout).toMatch(/^✓ device {3}the model runs on cpu/m)
  expect(stdout).toMatch(/^! redis .*\n {11}→ turn on its append-only file/m)
})
