/**
 * Owns an empty project outside this repository, in which packages are installed and used as by an outsider, on a Node of a chosen major version.
 *
 * Invariant: nothing of the workspace can be resolved from it. Knows nothing about the packages. Runs in tests.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'

export interface EmptyProject {
  readonly folder: string
  /** Runs a line of shell in the project and returns its stdout. When it fails, throws an error with all of its output. */
  run(line: string): Promise<string>
  write(file: string, text: string): Promise<void>
  remove(): Promise<void>
}

const root = resolve(import.meta.dirname, '../..')
/** The last release of Node 20. */
const node20 = '20.20.2'
const deno = '2.9.6'
const bun = '1.4.5'

/** @param nodeFolder where `node` is */
export async function createEmptyProject(nodeFolder: string): Promise<EmptyProject> {
  const folder = await mkdtemp(join(tmpdir(), 'easel-empty-project-'))
  const write = async (file: string, text: string): Promise<void> => await writeFile(join(folder, file), text)
  // Variables that the `npm run` of the tests has set must not become settings of this project.
  const inherited = Object.entries(process.env).filter(([name]) => !/^npm_(?!config_(cache|registry|userconfig|https?_proxy)$)/i.test(name))
  const env = { ...Object.fromEntries(inherited), PATH: [nodeFolder, ...hostPath()].join(delimiter), npm_config_prefer_offline: 'true' }
  await write('package.json', JSON.stringify({ private: true, type: 'module' }))
  return {
    folder,
    write,
    async run(line) {
      try {
        return (await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', line], { cwd: folder, env })).stdout
      } catch (error) {
        const { stdout, stderr } = error as { stdout?: string; stderr?: string }
        throw new Error(`Expected "${line}" to succeed in ${folder}, got:\n${stdout}\n${stderr}`, { cause: error })
      }
    },
    async remove() {
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The folder of a Node 20, from the same npm packages as the workspace's Node 24. */
export async function findNode20(): Promise<string> {
  return dirname(await findProgram(`node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`, node20, 'bin/node'))
}

/** The path of Deno. */
export async function findDeno(): Promise<string> {
  const system = process.platform === 'linux' ? 'linux-glibc' : process.platform
  return await findProgram(`@deno/${system.replace(/^\w+/, (name) => `${name}-${process.arch}`)}`, deno, 'deno')
}

/** The path of Bun. */
export async function findBun(): Promise<string> {
  return await findProgram(`@oven/bun-${process.platform}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`, bun, 'bin/bun')
}

/** The path of a program in a package, which is fetched only once. */
async function findProgram(name: string, version: string, program: string): Promise<string> {
  const prefix = join(root, '.cache', `${name.replace(/^@(\w+)\/.*/, '$1')}-${version}`)
  const path = join(prefix, 'node_modules', name, program)
  if (!existsSync(path)) {
    await mkdir(prefix, { recursive: true })
    await promisify(execFile)('npm', ['install', '--no-audit', '--no-fund', '--no-save', '--prefix', prefix, `${name}@${version}`])
  }
  return path
}

export function findNode24(): string {
  return dirname(process.execPath)
}

/** PATH without the workspace's programs, which include its own Node. */
export function hostPath(): string[] {
  return (process.env['PATH'] ?? '').split(delimiter).filter((folder) => !folder.startsWith(root))
}
