/** What the commands print and how they exit. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { easel } from './easel-command.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-commands-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const inPipeline = (path: string): string => fileURLToPath(new URL(`../../pipeline/test/${path}`, import.meta.url))
const boat = inPipeline('golden/pipeline/boat.png')
const disc = inPipeline('golden/img2img/inputs/mask-disc-128.png')
const readPixels = async (file: string): Promise<Buffer> =>
  await sharp(await readFile(file))
    .raw()
    .toBuffer()

test('draw writes pictures into the working directory, and the same seed draws the same picture', async () => {
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
  const [again, second] = await Promise.all(['again.png', 'boat-1.png'].map((file) => readPixels(join(folder, file))))
  expect(again?.equals(second!)).toBe(true)
})

test.each([
  {
    what: 'a picture',
    prompt: 'a blue boat on the sea',
    options: ['--seed', '42', '--steps', '20', '--strength', '0.6', '--image', boat],
    golden: 'i2i-blue-boat.png',
    runs: 12,
  },
  {
    what: 'a picture and a mask',
    prompt: 'a yellow star',
    options: ['--seed', '11', '--steps', '12', '--strength', '0.9', '--image', boat, '--mask', disc],
    golden: 'inpaint-disc.png',
    runs: 11,
  },
])("draw begins with $what as Python's pipelines do, pixel for pixel", async ({ prompt, options, golden, runs }) => {
  const args = ['draw', prompt, '--model', inPipeline('models/tiny-scenes-onnx'), '--guidance', '4', '-o', golden, ...options]
  const drawn = await easel(args, { cwd: folder }).ended
  expect(drawn.stderr).toContain(`${runs}/${runs} done`)
  const [ours, theirs] = await Promise.all([readPixels(join(folder, golden)), readPixels(inPipeline(`golden/img2img/${golden}`))])
  expect(ours.equals(theirs)).toBe(true)
})

test('draw takes a picture from a URL, and derives the size from it as the service does', async () => {
  const picture = await sharp({ create: { width: 600, height: 300, channels: 3, background: '#48f' } })
    .jpeg()
    .toBuffer()
  const server = createServer((request, answer) => {
    if (request.url === '/wide.jpg') answer.end(picture)
    else answer.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  try {
    await new Promise((listening) => server.once('listening', listening))
    const { port } = server.address() as AddressInfo
    const drawFrom = async (path: string, ...more: string[]) =>
      await easel(['draw', 'a boat', '--steps', '2', '--json', '-o', 'wide.png', '--image', `http://127.0.0.1:${port}${path}`, ...more], {
        cwd: folder,
      }).ended
    expect(JSON.parse((await drawFrom('/wide.jpg')).stdout)).toMatchObject([{ width: 176, height: 80 }])
    expect(JSON.parse((await drawFrom('/wide.jpg', '--size', '64', '--fit', 'contain')).stdout)).toMatchObject([{ width: 64, height: 64 }])
    const gone = await drawFrom('/gone.jpg')
    expect(gone).toMatchObject({
      code: 1,
      stderr: `--image http://127.0.0.1:${port}/gone.jpg: Expected a picture, got an answer with status 404\n`,
    })
  } finally {
    server.close()
  }
})

test.each([
  { args: ['--help'], code: 0, says: /Commands:[^]*draw[^]*pull[^]*Exit codes/ },
  { args: ['draw', '--help'], code: 0, says: /--seed[^]*--size/ },
  { args: ['paint'], code: 2, says: /unknown command 'paint'/ },
  { args: ['draw'], code: 2, says: /missing required argument 'prompt'/ },
  { args: ['draw', 'x', '--size', 'large'], code: 2, says: /Expected pixels, as in 1024x768 or 512/ },
  { args: ['draw', 'x', '--seed', '-1'], code: 2, says: /seed/ },
  { args: ['help', 'rm'], code: 0, says: /remove a model/ },
  { args: ['--version'], code: 0, says: /^\d+\.\d+\.\d+\n$/ },
  { args: ['draw', 'x', '-o', 'x.gif'], code: 2, says: /x\.gif.* Expected a file that ends in \.png, \.jpg, \.jpeg or \.webp/ },
  { args: ['draw', 'x', '-o', 'absent/x.png'], code: 1, says: /^Expected a folder at .*absent for --output, got nothing there\.\n$/ },
  { args: ['draw', 'x', '-n', '0'], code: 2, says: /Expected a whole number from 1 up/ },
  { args: ['draw', 'x', '--steps', '0'], code: 2, says: /Expected a whole number from 1 up/ },
  { args: ['draw', 'x', '--device', 'gpu'], code: 2, says: /Allowed choices are auto, cpu, cuda/ },
  { args: ['draw', 'x', '--size', '100'], code: 1, says: /^--size: Expected (width|height) to be divisible by 16/m },
  { args: ['draw', 'x', '--model', 'nothing'], code: 1, says: /Expected model "nothing" to be a preset/ },
  { args: ['draw', 'x', '--mask', 'm.png'], code: 2, says: /--mask needs --image/ },
  { args: ['draw', 'x', '--strength', '0.5'], code: 2, says: /--strength needs --image/ },
  { args: ['draw', 'x', '--image', boat, '--strength', '0'], code: 2, says: /Expected a number above 0, up to 1/ },
  { args: ['draw', 'x', '--image', boat, '--fit', 'crop'], code: 2, says: /Allowed choices are cover, contain, fill/ },
  { args: ['draw', 'x', '--image', 'none.png'], code: 1, says: /^--image none\.png: ENOENT/m },
  {
    args: ['draw', 'x', '--image', fileURLToPath(import.meta.url)],
    code: 1,
    says: /: Expected a PNG, JPEG, WebP, AVIF or GIF file, got something else$/m,
  },
  { args: ['draw', 'x', '--image', boat, '--mask', 'data:image/png;base64,aaaa'], code: 1, says: /^--mask data:.*: Expected a PNG/m },
  { args: ['pull', 'nothing'], code: 1, says: /Expected a model: a preset/ },
  { args: ['rm', 'tiny-scenes'], code: 1, says: /comes with Easel and stays/ },
])('easel $args ends with $code', async ({ args, code, says }) => {
  const ended = await easel(args, { cwd: folder }).ended
  expect(ended.stdout + ended.stderr).toMatch(says)
  expect(ended.code).toBe(code)
  expect(ended.stderr).not.toMatch(/^ +at /m)
})

test('draw refuses wrong variables, as a worker does', async () => {
  const ended = await easel(['draw', 'x'], { cwd: folder, env: { WEIGHTS: 'packd', TEXT_ENCODER_3: 'none' } }).ended
  expect(ended.code).toBe(1)
  expect(ended.stderr).toMatch(/^WEIGHTS: .*"packed"/m)
  expect(ended.stderr).toMatch(/^TEXT_ENCODER_3: .*"off"/m)
})
