/**
 * Owns the built pages of the api (playground and reference): builds them when they are missing or older than their sources.
 *
 * Invariant: once the stamp in dist/ equals the hash of the sources and the lock file, nothing is built. Knows nothing about what is on the
 * pages. Runs in the scripts that serve or test them.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../../../', import.meta.url))
const playground = join(root, 'services', 'api', 'playground')
const stamp = join(playground, 'dist', '.built')

/** Returns whether it had to build. */
export function ensurePlayground(): boolean {
  const wanted = hashSources()
  if (readText(stamp) === wanted) return false
  const { status, error, stdout, stderr } = spawnSync(join(playground, 'node_modules', '.bin', 'vite'), ['build'], {
    cwd: playground,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`Could not build the playground (${error?.message ?? `exit code ${status}`}):\n${stdout}${stderr}`)
  writeFileSync(stamp, wanted)
  return true
}

function hashSources(): string {
  const hash = createHash('sha256').update(readFileSync(join(root, 'pnpm-lock.yaml')))
  const sources = ['*.html', '*.ts', 'package.json', 'src/**/*.*'].map((pattern) => join('services/api/playground', pattern))
  for (const source of globSync([...sources, 'packages/client/src/*.ts'], { cwd: root }).sort()) {
    hash.update(`\0${source}\0`).update(readFileSync(join(root, source)))
  }
  return hash.digest('hex')
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
