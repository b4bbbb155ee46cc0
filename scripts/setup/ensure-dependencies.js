/**
 * Owns node_modules: installs what pnpm-lock.yaml lists unless it is already installed, and finds the Node 24 that runs everything else.
 *
 * Invariant: once the stamp in node_modules equals the hash of the lock file, nothing is installed and the network is not used.
 * Knows nothing about Redis or the services. Runs in the entry scripts, on any Node from 20 up, before any dependency exists.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export const pnpm = 'pnpm@12.21.0'
const nodeMajor = 24

/**
 * Makes node_modules complete and returns the path of a Node ≥ 24.
 * @param {string} root the project's folder
 * @returns {string}
 */
export function ensureDependencies(root) {
  const stamp = join(root, 'node_modules', '.easel-installed')
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'pnpm-lock.yaml')))
    .digest('hex')
  if (readText(stamp) !== wanted) {
    install(root)
    writeFileSync(stamp, wanted)
  }
  return findNode(root)
}

/** @param {string} root */
function install(root) {
  console.error('Installing the dependencies (only the first time and after changes; about a minute) …')
  // pnpm asks before it replaces a node_modules folder unless CI is set, and would leave out the dev tools under NODE_ENV=production.
  const env = { ...process.env, ...writableHome(root), CI: 'true', NODE_ENV: 'development' }
  const { status, error, stdout, stderr } = spawnSync('npx', ['-y', pnpm, 'install', '--frozen-lockfile'], {
    cwd: root,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 * 1024,
    shell: process.platform === 'win32',
  })
  if (status === 0) return
  console.error(`${stdout ?? ''}${stderr ?? ''}`)
  const reason = error === undefined ? 'see the lines above' : error.message
  throw new Error(`Could not install the dependencies with ${pnpm} (${reason}): check the network or proxy, then try again.`)
}

/**
 * npm and pnpm keep their caches in the home folder; that of a service account may be missing or read-only.
 * @param {string} root
 * @returns {Record<string, string>} variables that name another folder; none if the user's own can be used
 */
function writableHome(root) {
  try {
    accessSync(homedir(), constants.W_OK)
    return {}
  } catch {
    const home = join(root, '.cache', 'home')
    mkdirSync(home, { recursive: true })
    // `npm run` passes the path of its cache in the old home folder to everything that it starts.
    return { HOME: home, npm_config_cache: join(home, '.npm') }
  }
}

/**
 * The Node that npm installed with the dependencies, else the one that runs this, if it is new enough.
 * @param {string} root
 */
function findNode(root) {
  const installed = join(root, 'node_modules', '.bin', 'node')
  if (spawnSync(installed, ['--version'], { stdio: 'ignore' }).status === 0) return installed
  if (Number.parseInt(process.versions.node, 10) >= nodeMajor) return process.execPath
  const here = `${process.platform} ${process.arch} with Node ${process.versions.node}`
  throw new Error(`Expected Node ${nodeMajor} or newer (it is installed for you only on linux x64 and arm64 with glibc), got ${here}.`)
}

/** @param {string} path */
function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
