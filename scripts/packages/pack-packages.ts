/**
 * Owns `dist/`: the tarballs of the packages that can be installed elsewhere, as they would be published.
 *
 * Invariant: the tarballs match the present sources, and they are made again only when something they are made from has changed. pnpm packs them,
 * because it replaces `workspace:` versions and applies `publishConfig.exports`, which npm does not. Knows nothing about what is in the packages.
 * Runs on Node 24 in scripts, tests and benchmarks.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { pnpm } from '../setup/ensure-dependencies.js'

export interface PackedPackage {
  readonly name: string
  /** The absolute path. */
  readonly tarball: string
  /** The size of the tarball. */
  readonly bytes: number
  /** The paths in the package. */
  readonly files: readonly string[]
}

/** The part of `pnpm pack --json`'s output that is used. */
interface PackReport {
  name: string
  filename: string
  size: number
  files: { path: string }[]
}

const root = resolve(import.meta.dirname, '../..')
const folder = join(root, 'dist')
const recordFile = join(folder, 'packed.json')
/** The files that decide how packages are built, besides the packages' own. */
const recipe = [
  'CHANGELOG.md',
  'LICENSE',
  'pnpm-lock.yaml',
  'scripts/packages/contract-types.ts',
  'tsconfig.base.json',
  'tsconfig.packages.json',
  'tsdown.config.ts',
]

/** The names of the packages that are published, which are those that are not private, in the order of their folders. */
export function publishedPackages(): { name: string; folder: string }[] {
  return globSync('packages/*/package.json', { cwd: root })
    .sort()
    .map((file) => ({ file, manifest: JSON.parse(readFileSync(join(root, file), 'utf8')) as { name: string; private?: boolean } }))
    .filter(({ manifest }) => manifest.private !== true)
    .map(({ file, manifest }) => ({ name: manifest.name, folder: join(root, file, '..') }))
}

export async function packPackages(): Promise<readonly PackedPackage[]> {
  const packages = publishedPackages()
  const hash = hashSources(packages.map((each) => each.folder))
  const before = existsSync(recordFile)
    ? (JSON.parse(await readFile(recordFile, 'utf8')) as { hash: string; packed: PackedPackage[] })
    : undefined
  if (before?.hash === hash && before.packed.every(({ tarball }) => existsSync(tarball))) return before.packed

  await run('tsdown', ['--logLevel', 'error'])
  const filters = packages.flatMap(({ name }) => ['--filter', name])
  const report = await run('npx', ['-y', pnpm, '--recursive', ...filters, 'pack', '--json', '--pack-destination', folder])
  const packed = (JSON.parse(report) as PackReport[]).map(({ name, filename, size, files }) => ({
    name,
    tarball: filename,
    bytes: size,
    files: files.map(({ path }) => path),
  }))
  await writeFile(recordFile, JSON.stringify({ hash, packed }))
  return packed
}

function hashSources(folders: readonly string[]): string {
  const hash = createHash('sha256')
  const own = folders.flatMap((cwd) =>
    globSync(['package.json', 'README.md', 'tsconfig.build.json', 'src/**/*'], { cwd }).map((file) => join(cwd, file)),
  )
  for (const file of [...own.filter((file) => /\.\w+$/.test(file)).sort(), ...recipe.map((name) => join(root, name))])
    hash.update(`${file}\0`).update(readFileSync(file)).update('\0')
  return hash.digest('hex')
}

async function run(command: string, args: string[]): Promise<string> {
  const env = { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}:${process.env['PATH']}` }
  return (await promisify(execFile)(command, args, { cwd: root, env, maxBuffer: 2 ** 24 })).stdout
}
