import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { globSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Easel, startEasel, untilPreviewsCome } from '../scripts/start-easel.ts'

const secret = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
const root = fileURLToPath(new URL('../', import.meta.url))

let easel: Easel
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-examples-'))
  easel = await startEasel({ env: { WEBHOOK_ALLOW_INSECURE: 'true', WEBHOOK_SECRETS: secret } })
  await untilPreviewsCome(easel.url)
})
afterAll(async () => {
  await easel.stop()
  await rm(folder, { recursive: true, force: true })
})

async function run(command: string, args: string[], cwd = root, variables: Record<string, string> = {}): Promise<string> {
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env
  const env = { PATH, HOME, NODE_COMPILE_CACHE, EASEL_URL: easel.url, WEBHOOK_SECRET: secret, OUTPUT: folder, ...variables }
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const [out, problems, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  if (code !== 0) throw new Error(`Expected ${args.join(' ')} to end with 0, got ${code}:\n${out.slice(-2000)}\n${problems.slice(-2000)}`)
  return out
}

const picture = /http:\/\/localhost:\d+\/images\/[0-9a-f-]{36}-0\.png/

/** What each example must print. */
const said: Record<string, RegExp[]> = {
  'submit-and-poll.ts': [/succeeded, step 20 of 20/, picture],
  'wait.ts': [picture],
  'image-to-image.ts': [/a red boat on the sea: 20 steps, http/, /a blue boat on the sea: 12 steps, http/],
  'inpaint.ts': [/a green tree in a meadow: http/, /a yellow star: http/],
  'follow-events.ts': [/step \d+ of 20/, /preview of step \d+: data:image\/jpeg;base64,/, picture],
  'webhook-receiver.ts': [/forged message: 401/, /job\.started: running/, /job\.completed: succeeded/, picture],
  'idempotent-retry.ts': [/first: {2}([0-9a-f-]{36}), replayed: false\nsecond: \1, replayed: true/],
  'cancel.ts': [/cancel: 20[02]\ncanceled/],
  'library-image-to-image.ts': [/image-to-image: .*library-image-to-image\.png/, /inpainting: .*library-inpainting\.png/],
  'library-in-process.ts': [/a red boat on the sea \(seed 42\): .*library-0\.png/, /cat at night \(seed 43\)/],
  'seed-client.ts': [/-0\.png: \d{4,} bytes/, /-1\.png: \d{4,} bytes/, /current_model: 'tiny-scenes'/],
  'easel-client.ts': [/step \d+ of 20/, /succeeded/, /client-red\.png, .*client-blue\.png/, /width: expected a multiple of 16.*, got 100/],
  'openai-client.ts': [picture],
  'replicate-client.ts': [picture],
}

describe('examples', () => {
  test('are all run here', () => {
    const files = globSync('*.ts', { cwd: join(root, 'examples') }).filter((file) => !file.endsWith('.test.ts'))
    expect(files.sort()).toEqual(Object.keys(said).sort())
  })

  test('are all in the table of their page, and run by name on any Node', async () => {
    const page = await readFile(join(root, 'examples', 'README.md'), 'utf8')
    expect(Object.keys(said).filter((file) => !page.includes(`[${file.slice(0, -3)}](${file})`))).toEqual([])
    expect(await run('npm', ['run', 'example', 'wait'])).toMatch(picture)
    await expect(run('npm', ['run', 'example', 'weit'])).rejects.toThrow(/Expected the name of an example \(.*wait.*\), got weit/)
  })

  test('and the script that fits previews, if it is called wrongly, says so in one sentence and nothing else', async () => {
    const command = run('npm', ['run', '--silent', 'fit-preview'])
    await expect(command).rejects.toThrow(/got 1:\n\nExpected the folder of a model, got nothing\n$/)
  })

  test.each(Object.entries(said))('%s does what it says', async (file, lines) => {
    const out = await run(process.execPath, [join('examples', file)])
    for (const line of lines) expect(out).toMatch(line)
  })

  test('webhook-receiver.ts says which variable is missing when Easel may not call this machine', async () => {
    const strict = await startEasel()
    try {
      const receiver = run(process.execPath, ['examples/webhook-receiver.ts'], root, { EASEL_URL: strict.url })
      await expect(receiver).rejects.toThrow(/422.*WEBHOOK_ALLOW_INSECURE=true WEBHOOK_SECRETS=whsec_\S+ npm start/)
    } finally {
      await strict.stop()
    }
  })
})
