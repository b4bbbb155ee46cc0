/** `npm start`, `npm run start:api` and `npm run start:worker` as a user types them, and what they leave behind. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { findFreePort, startRedisProcess } from '@easel/redis-server'

const root = fileURLToPath(new URL('../../../../', import.meta.url))
/** The data of all starts in this file, which follow one another as if somebody started Easel every morning. */
let data: string
let port: number
beforeAll(async () => {
  data = await mkdtemp(join(tmpdir(), 'easel-start-'))
  port = await findFreePort()
})
afterAll(() => rm(data, { recursive: true, force: true }))

interface NpmRun {
  npm: ChildProcess
  /** Everything that was written so far, as a terminal shows it. */
  output: () => string
  ended: Promise<number | null>
}

function npmRun(script: string, variables: Record<string, string> = {}): NpmRun {
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env
  const env = { PATH, HOME, NODE_COMPILE_CACHE, PORT: String(port), SHUTDOWN_GRACE: '2', ...variables }
  // One pipe for both streams, because the order of what arrives on two is not certain.
  const shell = ['-c', 'exec npm "$@" 2>&1', 'npm', 'run', script, '--', '--data', data]
  const npm = spawn('sh', shell, { cwd: root, env, stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  npm.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = new Promise<number | null>((resolve) => npm.once('close', resolve))
  onTestFinished(() => {
    for (const pid of [npm.pid ?? 0, ...descendants(npm.pid)]) kill(pid)
  })
  return { npm, output: () => text, ended }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

interface ProcessRow {
  pid: number
  parent: number
  command: string
}

function processes(): ProcessRow[] {
  const { stdout } = spawnSync('ps', ['-eo', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' })
  return stdout.split('\n').flatMap((line) => {
    const [, pid, parent, stat, command = ''] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? []
    return pid === undefined || stat?.startsWith('Z') ? [] : [{ pid: Number(pid), parent: Number(parent), command }]
  })
}

function descendants(pid: number | undefined, rows = processes()): number[] {
  return rows.filter(({ parent }) => parent === pid).flatMap((row) => [row.pid, ...descendants(row.pid, rows)])
}

async function untilSaid(run: NpmRun, words: RegExp): Promise<void> {
  await expect.poll(run.output, { timeout: 250_000 }).toMatch(words)
}

async function expectGone(pids: number[]): Promise<void> {
  const left = () => processes().filter(({ pid }) => pids.includes(pid))
  await expect.poll(left, { timeout: 250_000 }).toEqual([])
}

/** The addresses of this machine by which others reach it. */
function otherAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flat()
    .flatMap((address) => (address?.family === 'IPv4' && !address.internal ? [address.address] : []))
}

describe('npm start', () => {
  test('says that it is ready once its worker takes jobs, listens on this machine only, and ends with npm', async () => {
    const run = npmRun('start')
    await untilSaid(run, /Easel is ready: open http:\/\/localhost:\d+ in a browser/)
    expect(run.output()).toContain('Only this machine can reach it')
    expect(run.output()).toContain('API_KEYS')

    const body = JSON.stringify({ prompt: 'a cat', num_inference_steps: 1 })
    const headers = { 'content-type': 'application/json', prefer: 'wait=60' }
    const answer = await fetch(`http://localhost:${port}/v1/jobs`, { method: 'POST', headers, body })
    expect(((await answer.json()) as { status: string }).status).toBe('succeeded')
    const preflight = await fetch(`http://localhost:${port}/v1/jobs`, { headers: { origin: 'https://pages.example' } })
    expect(['*', 'https://pages.example']).not.toContain(preflight.headers.get('access-control-allow-origin'))
    const reached = await Promise.allSettled(otherAddresses().map(async (address) => await fetch(`http://${address}:${port}/livez`)))
    expect(reached.filter(({ status }) => status === 'fulfilled')).toEqual([])

    expect(run.output()).not.toMatch(/^ +at |"stack"/m)
    const started = descendants(run.npm.pid)
    expect(started.length).toBeGreaterThanOrEqual(4)
    run.npm.kill('SIGTERM')
    await expectGone(started)
  })

  test('fails with the message of a worker that cannot start, and never says that it is ready, whatever earlier runs have left behind', async () => {
    const run = npmRun('start', { MODEL: 'tiny-scenez' })
    expect(await run.ended).toBe(1)
    expect(run.output()).not.toContain('Easel is ready')
    expect(run.output().trim().split('\n').at(-1)).toMatch(/cannot start.*"tiny-scenez"/)
  })

  test.each(['npm', 'its supervisor'])('leaves nothing behind when %s is killed with SIGKILL', async (name) => {
    const run = npmRun('start')
    await untilSaid(run, /Easel is ready/)
    const started = descendants(run.npm.pid)
    const [supervisor] = started
    expect(supervisor).toBeDefined()
    process.kill((name === 'npm' ? run.npm.pid : supervisor) ?? 0, 'SIGKILL')
    await expectGone(started)
  })
})

test('a SIGHUP reaches the api, which reads its file of keys again and continues', async () => {
  const file = join(data, 'keys')
  await writeFile(file, 'alice:first-secret\n')
  const run = npmRun('start:api', { API_KEYS_FILE: file })
  await untilSaid(run, /The api answers at/)
  const status = async (key: string) => (await fetch(`http://localhost:${port}/v1/jobs`, { headers: { 'x-api-key': key } })).status
  expect([await status('first-secret'), await status('second-secret')]).toEqual([200, 401])
  await writeFile(file, 'alice:second-secret\n')
  const [supervisor] = descendants(run.npm.pid)
  if (supervisor === undefined) throw new Error('Expected npm to have a child, got none')
  process.kill(supervisor, 'SIGHUP')
  await expect.poll(() => status('second-secret')).toBe(200)
  expect(await status('first-secret')).toBe(401)
  const started = descendants(run.npm.pid)
  run.npm.kill('SIGTERM')
  await expectGone(started)
})

describe('a service on a Redis of its own', () => {
  let url: string
  let redis: { stop(): Promise<void> }
  beforeAll(async () => {
    const redisPort = await findFreePort()
    redis = await startRedisProcess({ port: redisPort, dir: join(data, 'other-redis') })
    url = `redis://127.0.0.1:${redisPort}`
  })
  afterAll(() => redis.stop())

  test.each([
    { script: 'start:api', service: 'api', says: /api listens/ },
    { script: 'start:worker', service: 'gpu-worker', says: /loading the model/ },
  ])('npm run $script is one process, which ends with npm', async ({ script, service, says }) => {
    const run = npmRun(script, { REDIS_URL: url })
    await untilSaid(run, says)
    const children = processes().filter(({ parent }) => parent === run.npm.pid)
    expect(children.map(({ command }) => command)).toEqual([expect.stringContaining(`services/${service}/src/main.ts`)])
    const started = descendants(run.npm.pid)
    run.npm.kill('SIGKILL')
    await expectGone(started)
  })
})
