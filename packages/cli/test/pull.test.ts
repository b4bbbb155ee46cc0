/** From a repository on a hub to the pictures of a running service, with the commands that a person types. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type HubServer, readRepository, startHubServer } from '@easel/model-store/test/hub-server'
import { findFreePort } from '@easel/redis-server'
import { writeSingleFile } from '../../pipeline/test/write-single-file.ts'
import { easel } from './easel-command.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))

let hub: HubServer
let folder: string
let env: Record<string, string>
beforeAll(async () => {
  const files = await readRepository(join(root, 'models/tiny-scenes'))
  hub = await startHubServer({ 'painter/scenes': { files }, 'painter/small': { files }, 'painter/gated': { files, gatedFor: 'hf_right' } })
  folder = await mkdtemp(join(tmpdir(), 'easel-pull-cli-'))
  env = { HF_ENDPOINT: hub.url, HF_HOME: join(folder, 'hf'), MODELS_DIR: join(folder, 'models') }
})
afterAll(async () => {
  await hub.close()
  await rm(folder, { recursive: true, force: true })
})

/** How many bytes pulls have written to disk. */
async function pulledBytes(): Promise<number> {
  const pulls = join(folder, 'models/.pulls/painter--scenes')
  const names = await readdir(pulls, { recursive: true }).catch(() => [])
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(pulls, name)).catch(() => undefined))?.size ?? 0))
  return sizes.reduce((sum, size) => sum + size, 0)
}

test('a pull that is killed twice continues each time, and a service draws with what it has fetched', async () => {
  hub.fault = (path) => (path.startsWith('/blobs/') ? { bytesPerSecond: 2_000_000 } : undefined)
  for (const share of [3_000_000, 8_000_000]) {
    const { child, ended } = easel(['pull', 'painter/scenes'], { cwd: folder, env })
    await expect.poll(pulledBytes, { timeout: 60_000 }).toBeGreaterThan(share)
    child.kill('SIGKILL')
    expect((await ended).signal).toBe('SIGKILL')
    expect(existsSync(join(folder, 'models/painter/scenes'))).toBe(false)
  }
  const kept = await pulledBytes()
  hub.fault = () => undefined
  hub.requests.length = 0
  const { code, stdout, stderr } = await easel(['pull', 'painter/scenes'], { cwd: folder, env }).ended
  expect(stderr + stdout).toContain('MODEL=painter/scenes npm start')
  expect(code).toBe(0)
  const total = await readRepository(join(folder, 'models/painter/scenes'))
  const bytes = Object.values(total).reduce((sum, { length }) => sum + length, 0)
  const sent = hub.requests.filter(({ path }) => path.startsWith('/blobs/')).reduce((sum, { sentBytes }) => sum + sentBytes, 0)
  expect(sent).toBeLessThan(bytes - kept + 200_000)

  const port = await findFreePort()
  const url = `http://localhost:${port}`
  const service = npmStart({ ...env, MODEL: 'painter/scenes', PORT: String(port), SHUTDOWN_GRACE: '1' })
  await expect.poll(service.output, { timeout: 250_000 }).toContain('Easel is ready')
  const answer = await fetch(`${url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=60' },
    body: JSON.stringify({ prompt: 'a red boat', num_inference_steps: 2 }),
  })
  const job = (await answer.json()) as { status: string; output: { images: { url: string }[] } }
  expect(job.status).toBe('succeeded')
  expect((await fetch(job.output.images[0]?.url ?? '')).headers.get('content-type')).toBe('image/png')
  service.npm.kill('SIGTERM')
  await service.ended
})

function npmStart(variables: Record<string, string>): { npm: ChildProcess; output: () => string; ended: Promise<unknown> } {
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env
  const npm = spawn('npm', ['start', '--', '--data', join(folder, 'data')], {
    cwd: root,
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...variables },
  })
  onTestFinished(() => void npm.kill('SIGTERM'))
  let text = ''
  for (const stream of [npm.stdout, npm.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return { npm, output: () => text, ended: new Promise((resolve) => npm.once('close', resolve)) }
}

test('a pull without weights fetches what a single file lacks to draw, and a later pull brings the weights', async () => {
  const single = join(folder, 'scenes.safetensors')
  await writeSingleFile(join(root, 'models/tiny-scenes'), single)
  const small = await easel(['pull', 'painter/small', '--no-weights'], { cwd: folder, env }).ended
  expect(small.stdout).toContain('MODEL_PARTS=painter/small MODEL=FILE.safetensors npm start')
  const files = Object.keys(await readRepository(join(folder, 'models/painter/small')))
  expect(files).toContain('tokenizer_3/tokenizer.json')
  expect(files.filter((path) => path.endsWith('.safetensors'))).toEqual([])

  const draw = ['draw', 'a red boat', '--model', single, '--steps', '1', '--json']
  const without = { ...env, MODEL_PARTS: 'painter/small', TEXT_ENCODER_3: 'off' }
  const drawn = await easel(draw, { cwd: folder, env: without }).ended
  expect(drawn.stderr).not.toContain('expected')
  expect(JSON.parse(drawn.stdout)).toMatchObject([{ width: 128, height: 128 }])

  const whole = await easel(['pull', 'painter/small'], { cwd: folder, env }).ended
  expect(whole.stdout).toContain('MODEL=painter/small npm start')
  expect(existsSync(join(folder, 'models/painter/small/transformer/diffusion_pytorch_model.safetensors'))).toBe(true)
  await easel(['rm', 'painter/small'], { cwd: folder, env }).ended
})

test('Ctrl-C ends a pull with 130, and the pull says that it can be continued', async () => {
  await easel(['rm', 'painter/scenes'], { cwd: folder, env }).ended
  hub.fault = (path) => (path.startsWith('/blobs/') ? { bytesPerSecond: 500_000 } : undefined)
  const { child, ended } = easel(['pull', 'painter/scenes'], { cwd: folder, env })
  await expect.poll(pulledBytes, { timeout: 60_000 }).toBeGreaterThan(500_000)
  child.kill('SIGINT')
  const { code, stderr } = await ended
  expect(code).toBe(130)
  expect(stderr).toContain('the same command continues from there')
  const { stdout } = await easel(['models', '--json'], { cwd: folder, env }).ended
  expect(JSON.parse(stdout)).toMatchObject([{ name: 'painter/scenes', state: 'partial' }])
})

test('a gated repository is reported in one sentence, and is fetched with the right token', async () => {
  hub.fault = () => undefined
  const refused = await easel(['pull', 'painter/gated'], { cwd: folder, env }).ended
  expect(refused.code).toBe(1)
  expect(refused.stderr.trim().split('\n')).toEqual([
    expect.stringMatching(/^painter\/gated is gated: accept the terms at .* "hf auth login"/),
  ])
  const { code, stdout } = await easel(['pull', 'painter/gated', '--json'], { cwd: folder, env: { ...env, HF_TOKEN: 'hf_right' } }).ended
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ model: 'painter/gated', path: join(folder, 'models/painter/gated'), was_there: false })
  const removed = await easel(['rm', 'painter/gated'], { cwd: folder, env }).ended
  expect(removed.stdout).toMatch(/^Removed painter\/gated; 19 MB were freed\.$/m)
})
