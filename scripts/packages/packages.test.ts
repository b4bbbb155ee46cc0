/** The packages as they would be published: installed in an outsider's empty project, type-checked there, and the snippets of their pages run as written. */
import { execFile } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import type * as Client from '../../packages/client/src/index.ts'
import { findChromium, launchChromium } from '../find-chromium.ts'
import { type Easel, startEasel } from '../start-easel.ts'
import { createEmptyProject, type EmptyProject, findBun, findDeno, findNode20, findNode24 } from './empty-project.ts'
import { packPackages, type PackedPackage, publishedPackages } from './pack-packages.ts'

const root = resolve(import.meta.dirname, '../..')
const published = publishedPackages()
const chromium = findChromium()

let packed: readonly PackedPackage[]
let easel: Easel
beforeAll(async () => {
  packed = await packPackages()
  easel = await startEasel()
})
afterAll(async () => await easel?.stop())

/** The code blocks of one language on a package's page. */
async function snippetsOf(folder: string, language: string): Promise<string[]> {
  const page = await readFile(join(folder, 'README.md'), 'utf8')
  return [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].flatMap(([, found, text]) => (found === language ? [text ?? ''] : []))
}

describe('tarballs', () => {
  test.each(published)('of $name contain what was built, its page, the changes and the licence, and no test', ({ name }) => {
    const files = packed.find((each) => each.name === name)?.files ?? []
    expect(files).toEqual(
      expect.arrayContaining(['CHANGELOG.md', 'LICENSE', 'README.md', 'dist/index.d.ts', 'dist/index.js', 'package.json']),
    )
    expect(files.filter((file) => !/^(dist\/[\w/-]+\.(js|d\.ts|onnx)|[A-Z]+(\.md)?|package\.json)$/.test(file))).toEqual([])
    expect(files.filter((file) => /test|golden/i.test(file))).toEqual([])
  })

  test.each(published)('of $name have no fault that publint or "are the types wrong" could find', async ({ name }) => {
    const tarball = packed.find((each) => each.name === name)?.tarball ?? ''
    const bin = (program: string): string => join(root, 'node_modules', '.bin', program)
    expect((await promisify(execFile)(bin('publint'), [tarball, '--strict'])).stdout).toContain('All good!')
    // It ends with 0 only when nothing is wrong, but also for packages without types. The profile: Node below 22 cannot require ES modules.
    const { stdout } = await promisify(execFile)(bin('attw'), [tarball, '--profile', 'esm-only', '--format', 'json'])
    expect(JSON.parse(stdout)).toMatchObject({ analysis: { types: { kind: 'included' } } })
  })

  test('of the client depend on nothing, nor do their declarations', async () => {
    const { folder } = published.find(({ name }) => name === '@easel/client') ?? { folder: '' }
    const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>
    expect(Object.keys(manifest).filter((key) => /^(peer|optional|bundle)?dependencies$/i.test(key))).toEqual([])
    expect(await readFile(join(folder, 'dist/index.d.ts'), 'utf8')).not.toMatch(/\bfrom ["']|\bimport\(/)
  })

  test.each(published)(
    'of $name depend only on published packages, in versions that exist outside the workspace',
    async ({ name, folder }) => {
      const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Record<string, Record<string, string>>
      const needed = Object.entries({ ...manifest['dependencies'], ...manifest['peerDependencies'], ...manifest['optionalDependencies'] })
      const names = published.map((each) => each.name)
      expect(needed.filter(([each, version]) => (version.startsWith('workspace:') ? !names.includes(each) : !/^\d/.test(version)))).toEqual(
        [],
      )
      expect(name).toBe(manifest['name'])
    },
  )
})

describe.each([
  { major: 20, types: '20.19.43', findNode: findNode20 },
  { major: 24, types: '24.19.2', findNode: findNode24 },
])('in an empty project on Node $major', ({ major, types, findNode }) => {
  let project: EmptyProject
  beforeAll(async () => {
    project = await createEmptyProject(await findNode())
    await cp(join(root, 'models/tiny-scenes'), join(project.folder, 'models/tiny-scenes'), { recursive: true })
    for (const { name, folder } of published) {
      const snippets = await snippetsOf(folder, 'ts')
      await project.write(`${name.replace('@easel/', '')}.ts`, snippets.join('\n').replaceAll('http://localhost:8500', easel.url))
    }
  })
  afterAll(async () => await project?.remove())

  test('the packages install by the commands of their pages', async () => {
    expect(await project.run('node --version')).toMatch(`v${major}.`)
    await project.write('.npmrc', 'engine-strict=true\naudit=false\nfund=false\n')
    const commands = (await Promise.all(published.map(async ({ folder }) => await snippetsOf(folder, 'sh')))).flat().join('')
    const localCommands = commands
      .replaceAll(/@easel\/\w+/g, (name) => packed.find((each) => each.name === name)?.tarball ?? name)
      .replaceAll(/\bsharp$/gm, `sharp@${sharp.versions.sharp}`)
    await project.run(`${localCommands}npm install --save-dev @types/node@${types}`)
  })

  test.each([
    ['nodenext', '--module nodenext --outDir built'],
    ['bundler', '--module esnext --moduleResolution bundler --noEmit'],
  ])('the snippets compile with module resolution %s, declarations of libraries checked too', async (_, options) => {
    const tsc = join(root, 'node_modules', '.bin', 'tsc')
    expect(await project.run(`${tsc} --strict --target es2022 --types node ${options} *.ts`)).toBe('')
  })

  test('the library draws the same as the sources here', async () => {
    await project.run('node built/pipeline.js')
    const pipe = await StableDiffusion3Pipeline.fromPretrained(join(root, 'models/tiny-scenes'), { device: 'cpu' })
    for (const [n, prompt] of ['a red boat on the sea', 'a big green cat at night'].entries()) {
      const { images } = await pipe.generate({ prompt, seed: 42, numInferenceSteps: 20 })
      const drawn = await sharp(join(project.folder, `picture-${n}.png`))
        .removeAlpha()
        .raw()
        .toBuffer()
      expect(drawn.equals(images[0]?.data as Uint8Array)).toBe(true)
    }
    await pipe.close()
  })

  test('a large model is hashed by threads there too', async () => {
    await writeFile(join(project.folder, 'large'), 'a')
    await truncate(join(project.folder, 'large'), 130 * 2 ** 20)
    await project.write(
      'hash.js',
      "import { hashFiles } from './node_modules/@easel/pipeline/dist/sd3/hash-files.js'\nconsole.log(await hashFiles(['large']))\n",
    )
    expect(await project.run('node hash.js')).toContain((await project.run('sha256sum large')).split(' ')[0])
  })

  test('the snippet of the client fetches a picture and follows a job', async () => {
    expect(await project.run('node built/client.js')).toMatch(/^step \d+ of \d+\n(.*\n)*succeeded$/m)
    const { format, width } = await sharp(join(project.folder, 'boat.png')).metadata()
    expect({ format, width }).toEqual({ format: 'png', width: 128 })
  })

  test.runIf(major === 24).each([
    ['Deno', findDeno, 'run --allow-all --cached-only'],
    ['Bun', findBun, 'run'],
  ] as const)('the snippet of the client does the same in %s', async (_, findRuntime, run) => {
    await rm(join(project.folder, 'boat.png'))
    expect(await project.run(`${await findRuntime()} ${run} built/client.js`)).toMatch(/^step \d+ of \d+\n(.*\n)*succeeded$/m)
    expect((await sharp(join(project.folder, 'boat.png')).metadata()).width).toBe(128)
  })

  test.runIf(major === 24 && chromium !== undefined)('the packed client draws, follows and uploads in a browser', async () => {
    const modules = join(project.folder, 'node_modules/@easel/client/dist')
    const html = `<script type="module">import * as client from './index.js'; globalThis.client = client</script>`
    // Of another origin than the service's, which is what CORS is for.
    const site = createServer((request, answer) => {
      const isPage = request.url === '/'
      answer.setHeader('Content-Type', isPage ? 'text/html' : 'text/javascript')
      if (isPage) answer.end(html)
      else
        createReadStream(join(modules, request.url ?? ''))
          .on('error', () => answer.writeHead(404).end())
          .pipe(answer)
    }).listen(0, '127.0.0.1')
    const browser = await launchChromium(chromium as string)
    try {
      const page = await browser.newPage()
      await page.goto(`http://localhost:${(site.address() as AddressInfo).port}/`)
      await page.waitForFunction('globalThis.client')
      const seen = await page.evaluate(async (baseUrl) => {
        const { Easel, EaselError } = (globalThis as unknown as { client: typeof Client }).client
        const easel = new Easel({ baseUrl })
        const { id } = await easel.create({ prompt: 'a red boat on the sea', num_inference_steps: 4, seed: 1 })
        const types: string[] = []
        for await (const event of easel.events(id)) types.push(event.type)
        const { output } = await easel.wait(id)
        const bytes = await easel.images.bytes(output!.images[0])
        const upload = await easel.upload(bytes)
        const wrong = await easel.create({ prompt: '' }).catch((error: unknown) => error)
        return {
          types: [...new Set(types)],
          signature: [...bytes.subarray(1, 4)],
          side: upload.width,
          field: wrong instanceof EaselError ? wrong.field : String(wrong),
        }
      }, easel.url)
      expect(seen.types).toEqual(expect.arrayContaining(['progress', 'done']))
      expect(seen).toMatchObject({ signature: [...Buffer.from('PNG')], side: 128, field: 'prompt' })
    } finally {
      await browser.close()
      site.close()
    }
  })

  test('the snippet of the contract talks to a service', async () => {
    expect(await project.run('node built/contract.js')).toMatch(/^succeeded http:\/\/localhost:\d+\/images\/\S+\.png true$/m)
  })
})
