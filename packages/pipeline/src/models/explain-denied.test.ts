/** Models that this user may not read. Tries them in a child process, which gives up the rights of root if it has them. */
import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'

/** A user without rights. */
const nobody = 65_534
const shipped = fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url))
const weights = 'transformer/diffusion_pytorch_model.safetensors'

/** Models, each with the path in it that is closed. */
const closed = [
  { model: 'folder', path: 'folder' },
  { model: 'listing', path: 'listing', mode: 0o311 },
  { model: 'part', path: 'part/transformer' },
  { model: 'tokenizer', path: 'tokenizer/tokenizer_2', mode: 0o311 },
  { model: 'weights', path: `weights/${weights}` },
  { model: 'config', path: 'config/vae/config.json' },
  { model: 'file.safetensors', path: 'file.safetensors' },
  { model: 'above/model', path: 'above' },
  { model: 'stabilityai/stable-diffusion-3.5-large', path: 'stable-diffusion-3.5-large' },
]

/** Prints the message of each model's error, in a list. The rights are given up after everything has been imported, for the first model. */
const script = `
  import { loadPipeline } from ${JSON.stringify(new URL('../index.ts', import.meta.url).href)}
  const [modelsDir, lorasDir, ...models] = process.argv.slice(1)
  const load = async (model, options) => {
    const pipeline = await loadPipeline(model, { device: 'cpu', modelsDir, ...options })
    try { await pipeline.modelHash() } finally { await pipeline.close() }
  }
  const failure = (...of) => load(...of).then(() => 'none', (error) => error.message)
  await load('open')
  if (process.getuid() === 0) {
    process.setgroups([])
    process.setgid(${nobody})
    process.setuid(${nobody})
  }
  const messages = []
  for (const model of models) messages.push(await failure(model))
  messages.push(await failure('open', { lorasDir }), await failure('open', { modelParts: 'folder' }))
  console.log(JSON.stringify(messages))
`

let folder: string
let messages: string[]
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'easel-denied-'))
  chmodSync(folder, 0o755)
  for (const name of ['open', 'folder', 'listing', 'part', 'tokenizer', 'weights', 'config', 'above/model', 'stable-diffusion-3.5-large'])
    cpSync(shipped, join(folder, name), { recursive: true })
  cpSync(join(shipped, weights), join(folder, 'file.safetensors'))
  mkdirSync(join(folder, 'loras'))
  for (const { path, mode = 0 } of [...closed, { path: 'loras' }]) chmodSync(join(folder, path), mode)
  const models = closed.map(({ model }) => model)
  const args = ['--input-type=module', '--eval', script, folder, join(folder, 'loras'), ...models]
  messages = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as string[]
})
afterAll(() => {
  for (const path of [...closed.map(({ path }) => path), 'loras']) chmodSync(join(folder, path), 0o755)
  rmSync(folder, { recursive: true })
})

const user = process.getuid?.() === 0 ? nobody : process.getuid?.()
const sentence = (variable: string, value: string, path: string): string =>
  `${variable}: Expected ${value} to be readable by this process (of user ${user}), got no permission for ${path}. ` +
  `To give it: chmod ${path.endsWith('above') ? 'a+x' : '-R a+rX'} ${path}`

it.each([...closed.entries()])('%i: a model with something closed names MODEL, the path and what to do', (index, { model, path }) => {
  expect(messages[index]).toBe(sentence('MODEL', model, join(folder, path)))
})

it('a closed folder of LoRAs, or of parts, is named by its own variable', () => {
  expect(messages.slice(-2)).toEqual([
    sentence('LORAS_DIR', join(folder, 'loras'), join(folder, 'loras')),
    sentence('MODEL_PARTS', 'folder', join(folder, 'folder')),
  ])
})
