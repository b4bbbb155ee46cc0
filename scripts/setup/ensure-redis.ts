/**
 * Owns the one system program we need and npm does not carry: a Redis-compatible server.
 *
 * Invariant: nothing is installed when a server or Docker is already there, and an installation starts no system service. Knows nothing
 * about running the server. Runs in the demo, start and test scripts.
 */
import { spawnSync } from 'node:child_process'
import { findDocker, findRedisServer } from '../../packages/job-store/test/redis-server.ts'

/**
 * Debian's and Ubuntu's package starts a service on port 6379 when it is installed, and at every boot. `policy-rc.d` is their way of
 * saying no to the first; the administrator's own is left alone.
 */
const APT_INSTALL = `
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q || true
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
fi
apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends redis-server
if command -v systemctl >/dev/null; then systemctl disable redis-server >/dev/null 2>&1 || true; fi
`

/** The first one found is used. Both of the later two carry Valkey, older releases only Redis. */
const PACKAGE_MANAGERS = [
  { command: 'apt-get', script: APT_INSTALL },
  { command: 'dnf', script: 'dnf install -y -q valkey || dnf install -y -q redis' },
  { command: 'apk', script: 'apk add --no-progress valkey || apk add --no-progress redis' },
]
const INSTALL_TIMEOUT_MS = 300_000

/** Returns when `startRedis` has something to start; throws one sentence that says what to install. */
export function ensureRedisServer(): void {
  if (findRedisServer() !== undefined) return
  const failure = installRedis()
  if (findRedisServer() !== undefined || findDocker() !== undefined) return
  throw new Error(
    `Expected a Redis server, got none and ${failure}: install valkey-server or redis-server, start Docker, ` +
      'or (for demo and start) point REDIS_URL at a running one.',
  )
}

/** Installs a server if this user may; returns why it could not. */
function installRedis(): string {
  const manager = PACKAGE_MANAGERS.find(({ command }) => succeeds('sh', ['-c', `command -v ${command}`]))
  if (manager === undefined) return 'found no package manager that it knows (apt-get, dnf, apk)'

  const isRoot = process.getuid?.() === 0
  if (!isRoot && !succeeds('sudo', ['-n', 'true'])) return `may not use ${manager.command} (neither root nor sudo without a password)`

  console.error(`Installing a Redis server with ${manager.command} (only this once) …`)
  const shell = ['sh', '-c', manager.script]
  const { status, stdout, stderr } = spawnSync(isRoot ? 'env' : 'sudo', isRoot ? shell : ['-n', ...shell], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    timeout: INSTALL_TIMEOUT_MS,
  })
  if (status !== 0) console.error(`${stdout}${stderr}`.slice(-4000))
  return `${manager.command} did not install one`
}

function succeeds(command: string, args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 10_000 }).status === 0
}
