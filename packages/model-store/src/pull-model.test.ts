/** Pulls with the hub's own client, from a real HTTP server that has the hub's api. */
import { randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { type HubRepository, type HubServer, sha256, startHubServer } from '../test/hub-server.ts'
import { mountTmpfs, noTmpfs } from '../../storage/test/tmpfs.ts'
import { openHubRepository } from './hub-source.ts'
import { openLocalModel } from './local-source.ts'
import { readPullRecord } from './model-record.ts'
import { type PullEvent, type PulledModel, pullModel, type PullOptions } from './pull-model.ts'

const index = {
  _class_name: 'StableDiffusion3Pipeline',
  scheduler: ['diffusers', 'FlowMatchEulerDiscreteScheduler'],
  transformer: ['diffusers', 'SD3Transformer2DModel'],
  vae: ['diffusers', 'AutoencoderKL'],
  text_encoder_3: [null, null],
}
const big = randomBytes(300_000)
const files: Record<string, Buffer> = {
  'model_index.json': Buffer.from(JSON.stringify(index)),
  'scheduler/scheduler_config.json': Buffer.from('{}'),
  'transformer/config.json': Buffer.from('{"a": 1}'),
  'transformer/diffusion_pytorch_model.safetensors': big,
  'vae/config.json': Buffer.from('{"b": 2}'),
  'vae/diffusion_pytorch_model.safetensors': randomBytes(50_000),
  'sd3_single_file.safetensors': randomBytes(20_000),
}
const bigPath = `/blobs/${sha256(big)}`

let modelsDir: string
beforeEach(async () => {
  modelsDir = await mkdtemp(join(tmpdir(), 'easel-pull-'))
  onTestFinished(() => rm(modelsDir, { recursive: true, force: true }))
})

async function startHub(repositories: Record<string, Partial<HubRepository>> = { 'owner/model': {} }): Promise<HubServer> {
  const hub = await startHubServer(Object.fromEntries(Object.entries(repositories).map(([name, rest]) => [name, { files, ...rest }])))
  onTestFinished(() => hub.close())
  return hub
}

interface Pull extends Partial<PullOptions> {
  repository?: string
  revision?: string
  token?: string
  cacheDir?: string
}

function pull(hub: HubServer, { repository = 'owner/model', revision = 'main', token, cacheDir = '/nowhere', ...rest }: Pull = {}) {
  const { signal = new AbortController().signal, onEvent = () => {} } = rest
  const onRetry = (reason: string, waitMs: number): void => onEvent({ type: 'retry', reason, waitMs })
  const openSource = async () =>
    await openHubRepository(repository, revision, { hubUrl: hub.url, token, cacheDir, signal, onRetry, firstWaitMs: 20 })
  return pullModel({ openSource, modelsDir, folder: 'owner/model', ...rest, signal, onEvent })
}

const wanted = Object.keys(files).filter((path) => path !== 'sd3_single_file.safetensors')

async function expectWhole({ path }: PulledModel): Promise<void> {
  for (const file of wanted) expect((await readFile(join(path, file))).equals(files[file] as Buffer)).toBe(true)
  expect(await readdir(join(path, 'transformer'))).toEqual(['config.json', 'diffusion_pytorch_model.safetensors'])
}

test('takes what the pipeline reads, checks it, and records where it is from', async () => {
  const hub = await startHub()
  const events: PullEvent[] = []
  const pulled = await pull(hub, { onEvent: (event) => events.push(event) })
  await expectWhole(pulled)
  expect(existsSync(join(pulled.path, 'sd3_single_file.safetensors'))).toBe(false)
  const total = wanted.reduce((sum, path) => sum + (files[path]?.length ?? 0), 0)
  expect(events.at(-1)).toEqual({ type: 'progress', doneBytes: total, totalBytes: total })
  const record = await readPullRecord(pulled.path)
  expect(record?.origin).toBe(`${hub.url}/owner/model@${'a'.repeat(40)}`)
  expect(record?.files['transformer/diffusion_pytorch_model.safetensors']).toEqual({ size: big.length, sha256: sha256(big) })
  expect(await readdir(join(modelsDir, '.pulls'))).toEqual([])
  expect(await pull(hub)).toMatchObject({ wasThere: true })
})

test('a token is sent to the hub and never to the host that stores its files', async () => {
  const hub = await startHub({ 'owner/model': { gatedFor: 'hf_right' } })
  await expectWhole(await pull(hub, { token: 'hf_right' }))
  const atStorage = hub.requests.filter(({ path }) => path.startsWith('/blobs/'))
  expect(atStorage.length).toBeGreaterThan(1)
  expect(atStorage.every(({ authorization }) => authorization === undefined)).toBe(true)
})

test.each<{ name: string; of: Pull; says: RegExp }>([
  {
    name: 'gated, without a token',
    of: {},
    says: /owner\/model is gated: accept the terms at http:\S+\/owner\/model, then log in with "hf auth login"/,
  },
  { name: 'gated, without access', of: { token: 'hf_other' }, says: /has no access yet: accept the terms at http:\S+\/owner\/model/ },
  {
    name: 'not there',
    of: { repository: 'owner/nothing' },
    says: /There is no model owner\/nothing at http:\S+, or it is private: log in/,
  },
  { name: 'not there, with a token', of: { repository: 'owner/nothing', token: 'hf_x' }, says: /private and your token may not read it/ },
  { name: 'without that revision', of: { token: 'hf_right', revision: 'v9' }, says: /owner\/model has no revision "v9"/ },
  { name: 'requested with a token that is not one', of: { token: 'secret' }, says: /begins with "hf_"/ },
])('a repository that is $name is refused with what to do', async ({ of, says }) => {
  const hub = await startHub({ 'owner/model': { gatedFor: 'hf_right' } })
  await expect(pull(hub, of)).rejects.toThrow(says)
  expect(existsSync(join(modelsDir, 'owner/model'))).toBe(false)
})

test('a repository that has moved is found under its new name', async () => {
  const hub = await startHub({ 'owner/old': { movedTo: 'owner/model' }, 'owner/model': {} })
  const pulled = await pull(hub, { repository: 'owner/old' })
  await expectWhole(pulled)
  expect((await readPullRecord(pulled.path))?.origin).toContain('/owner/model@')
})

test('a range that is cut in the middle continues at the byte where it broke off', async () => {
  const hub = await startHub()
  hub.fault = (path) =>
    path === bigPath && hub.requests.filter((request) => request.path === bigPath).length <= 4 ? { cutAfter: 70_000 } : undefined
  await expectWhole(await pull(hub))
  const sent = hub.requests.filter(({ path, range }) => path === bigPath && range !== 'bytes=0-0')
  expect(sent.length).toBeGreaterThan(2)
  expect(sent.slice(1).every(({ range }) => range !== 'bytes=0-')).toBe(true)
  expect(sent.reduce((sum, { sentBytes }) => sum + sentBytes, 0)).toBeLessThan(big.length * 1.5)
})

test('a file from a server that ignores ranges and starts again is right all the same', async () => {
  const hub = await startHub()
  let cuts = 0
  hub.fault = (path) => (path !== bigPath ? undefined : cuts++ === 1 ? { cutAfter: 70_000 } : cuts > 3 ? { ignoreRange: true } : undefined)
  await expectWhole(await pull(hub))
  expect(cuts).toBeGreaterThan(3)
})

test('bytes with another hash than the hub gives are fetched once more and then refused with both hashes', async () => {
  const hub = await startHub()
  hub.fault = (path) => (path === bigPath ? { corrupt: true } : undefined)
  await expect(pull(hub)).rejects.toThrow(new RegExp(`arrived twice with the sha256 [0-9a-f]{64} instead of ${sha256(big)}`))
  expect(existsSync(join(modelsDir, 'owner/model'))).toBe(false)
  expect(await readdir(join(modelsDir, '.pulls/owner--model/transformer'))).toEqual(['config.json'])
  hub.fault = () => undefined
  await expectWhole(await pull(hub))
})

test('a small file whose content is not what git has is refused, too', async () => {
  const hub = await startHub()
  hub.fault = (path) => (path.endsWith('/transformer/config.json') ? { corrupt: true } : undefined)
  await expect(pull(hub)).rejects.toThrow(/transformer\/config\.json of owner\/model arrived twice with the id/)
})

test('a 429 is obeyed: the next attempt comes after Retry-After', async () => {
  const hub = await startHub()
  let refused = 0
  hub.fault = (path) => (path === bigPath && refused++ < 2 ? { status: 429, headers: { 'retry-after': '1' } } : undefined)
  const waits: number[] = []
  await expectWhole(await pull(hub, { onEvent: (event) => event.type === 'retry' && waits.push(event.waitMs) }))
  expect(waits).toEqual([1000, 1000])
})

test('a connection on which nothing more arrives is given up for another', async () => {
  const hub = await startHub()
  let slow = 0
  hub.fault = (path) => (path === bigPath && slow++ === 1 ? { bytesPerSecond: 1000 } : undefined)
  const reasons: string[] = []
  await expectWhole(await pull(hub, { silenceMs: 300, onEvent: (event) => event.type === 'retry' && reasons.push(event.reason) }))
  // A machine that stands still for a moment gives up other connections, too.
  expect(reasons[0]).toMatch(/nothing arrived for 0\.3 s/)
})

test('a hub that cannot be reached is named, with what to check', async () => {
  const hub = await startHub()
  await hub.close()
  hub.close = async () => {}
  await expect(pull(hub)).rejects.toThrow(/Could not reach 127\.0\.0\.1:\d+ in 6 tries.*HTTPS_PROXY.*HF_ENDPOINT/)
})

test('a pull that is stopped keeps what has arrived, and the next one continues there', async () => {
  const hub = await startHub()
  // The first piece comes at once, and all others in half a minute.
  hub.fault = (path) => (path === bigPath ? { bytesPerSecond: 10_000 } : undefined)
  const stop = new AbortController()
  const staged = join(modelsDir, '.pulls/owner--model')
  const partial = join(staged, 'transformer/diffusion_pytorch_model.safetensors.partial')
  const stopped = pull(hub, { signal: stop.signal })
  await expect.poll(() => existsSync(join(staged, 'vae/diffusion_pytorch_model.safetensors'))).toBe(true)
  await expect.poll(async () => (await stat(partial).catch(() => undefined))?.size ?? 0).toBeGreaterThan(0)
  stop.abort(new Error('Ctrl-C'))
  await expect(stopped).rejects.toThrow('Ctrl-C')
  const kept = (await stat(partial)).size
  hub.fault = () => undefined
  hub.requests.length = 0
  await expectWhole(await pull(hub))
  expect(hub.requests.filter(({ path }) => path === bigPath).map(({ range }) => range)).toContain(`bytes=${kept}-`)
  expect(hub.requests.some(({ path }) => path.endsWith('vae/diffusion_pytorch_model.safetensors'))).toBe(false)
})

test('of two pulls of one model, one fetches it and the other waits and says so', async () => {
  const hub = await startHub()
  hub.fault = (path) => (path === bigPath ? { bytesPerSecond: 400_000 } : undefined)
  const seen: PullEvent['type'][] = []
  const options: Pull = { onlyIfMissing: true, onEvent: ({ type }) => seen.push(type) }
  const [first, second] = await Promise.all([pull(hub, options), pull(hub, options)])
  expect(first.wasThere).not.toBe(second.wasThere)
  const bytes = hub.requests.filter(({ path }) => path === bigPath).reduce((sum, { sentBytes }) => sum + sentBytes, 0)
  expect(bytes).toBeLessThan(big.length * 1.5)
  expect(seen.filter((type) => type === 'waiting')).toHaveLength(1)
})

test("what is in the hub's own cache is checked and not fetched again", async () => {
  const hub = await startHub()
  const cacheDir = join(modelsDir, 'cache')
  const blobs = join(cacheDir, 'models--owner--model', 'blobs')
  await mkdir(blobs, { recursive: true })
  await writeFile(join(blobs, sha256(big)), big)
  const vae = files['vae/diffusion_pytorch_model.safetensors'] as Buffer
  await writeFile(join(blobs, sha256(vae)), Buffer.alloc(vae.length))
  await expectWhole(await pull(hub, { cacheDir }))
  const fetched = hub.requests.filter(({ path, range }) => path.startsWith('/blobs/') && range !== 'bytes=0-0').map(({ path }) => path)
  expect(fetched).toEqual([`/blobs/${sha256(vae)}`])
  expect((await readFile(join(blobs, sha256(vae)))).equals(Buffer.alloc(vae.length))).toBe(true)
})

test('a newer version replaces the one that is there, and files that stayed the same are not fetched', async () => {
  const hub = await startHub()
  await pull(hub)
  const next = { ...files, 'vae/config.json': Buffer.from('{"b": 3}') }
  const newer = await startHub({ 'owner/model': { files: next, sha: 'b'.repeat(40) } })
  const pulled = await pull(newer)
  expect(await readFile(join(pulled.path, 'vae/config.json'), 'utf8')).toBe('{"b": 3}')
  expect(newer.requests.some(({ path }) => path.startsWith('/blobs/'))).toBe(false)
})

test("large files come by the hub's own storage protocol where it offers that, even from the middle", async () => {
  const hub = await startHub({ 'owner/model': { xet: true } })
  const staged = join(modelsDir, '.pulls/owner--model/transformer')
  await mkdir(staged, { recursive: true })
  await writeFile(join(staged, 'diffusion_pytorch_model.safetensors.partial'), big.subarray(0, 100_001))
  await expectWhole(await pull(hub))
  const asked = hub.requests.filter(({ path }) => path.startsWith('/v2/reconstructions/')).map(({ range }) => range)
  expect(asked).toContain(`bytes=100001-${big.length - 1}`)
  expect(hub.requests.some(({ path }) => path.startsWith('/blobs/'))).toBe(false)
})

test('a disk without enough room is reported before the first byte, and one that fills up on the way keeps what has arrived', async ({
  skip,
}) => {
  const disk = await mountTmpfs('size=600k')
  if (disk === undefined) skip(noTmpfs)
  const hub = await startHub()
  const filler = join(disk ?? '', 'filler')
  await writeFile(filler, Buffer.alloc(400_000))
  await expect(pull(hub, { modelsDir: disk })).rejects.toThrow(/Expected 0\.4 MB free for owner\/model in \S+, got 0\.\d MB: make room/)
  await rm(filler)
  const fill = ({ type }: PullEvent): void => void (type === 'planned' && writeFileSync(filler, Buffer.alloc(400_000)))
  await expect(pull(hub, { modelsDir: disk, onEvent: fill })).rejects.toThrow(
    /Cannot write in \S+: the disk is full\. What has been fetched is kept/,
  )
  await rm(filler)
  hub.requests.length = 0
  await expectWhole(await pull(hub, { modelsDir: disk }))
  const bytes = hub.requests.filter(({ path }) => path === bigPath).reduce((sum, { sentBytes }) => sum + sentBytes, 0)
  expect(bytes).toBeLessThan(big.length)
})

test('another pull mends a model of which a file is missing or cut short, without fetching the rest again', async () => {
  const hub = await startHub()
  const { path } = await pull(hub)
  await rm(join(path, 'scheduler/scheduler_config.json'))
  await writeFile(join(path, 'vae/diffusion_pytorch_model.safetensors'), 'cut')
  hub.requests.length = 0
  expect(await pull(hub)).toMatchObject({ wasThere: false })
  await expectWhole({ path, totalBytes: 0, wasThere: false })
  expect(hub.requests.some((request) => request.path === bigPath)).toBe(false)
})

test('a folder that was not pulled is never replaced', async () => {
  const hub = await startHub()
  await mkdir(join(modelsDir, 'owner/model'), { recursive: true })
  await writeFile(join(modelsDir, 'owner/model/mine.txt'), 'mine')
  await expect(pull(hub)).rejects.toThrow(/was not pulled/)
  expect(await readFile(join(modelsDir, 'owner/model/mine.txt'), 'utf8')).toBe('mine')
})

test('a path that would leave the folder is refused', async () => {
  const hub = await startHub({ 'owner/model': { files: { ...files, 'a/../../b.json': Buffer.from('{}') } } })
  await expect(pull(hub)).rejects.toThrow(/would leave the model's folder/)
})

test('a folder or a single file on this machine is pulled as a repository is', async () => {
  const folder = join(modelsDir, 'source')
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await writeFile(join(folder, path), content)
  }
  const { signal } = new AbortController()
  const options = { modelsDir, signal, onEvent: () => {} }
  await expectWhole(await pullModel({ ...options, openSource: () => openLocalModel(folder), folder: 'copy' }))
  const single = join(folder, 'sd3_single_file.safetensors')
  const { path } = await pullModel({ ...options, openSource: () => openLocalModel(single), folder: 'single.safetensors' })
  expect((await readFile(path)).equals(files['sd3_single_file.safetensors'] as Buffer)).toBe(true)
})

test('a models directory in which no folder can be made ends the pull with a message', async () => {
  const hub = await startHub()
  await expect(pull(hub, { modelsDir: '/proc/easel' })).rejects.toThrow(
    /^Cannot write in \/proc\/easel: .*name another folder in MODELS_DIR/,
  )
})
