/**
 * Installs a system program with the system's package manager, if this user may: as root, or by sudo without a password.
 *
 * Invariant: an installation starts no system service. Knows nothing about what is installed or what happens without it.
 */
import { spawnSync } from 'node:child_process'

export interface Program {
  /** Its name in messages, with an article. */
  name: string
  /** The shell scripts that install it, by package manager. */
  scripts: Partial<Record<(typeof packageManagers)[number], string>>
}

/** The first one found is used. */
const packageManagers = ['apt-get', 'dnf', 'apk'] as const
const installTimeoutMs = 300_000

/** Returns why it was not installed, as the end of a sentence; undefined when it was. */
export function installProgram({ name, scripts }: Program): string | undefined {
  const known = packageManagers.filter((command) => scripts[command] !== undefined)
  const manager = known.find((command) => succeeds('sh', ['-c', `command -v ${command}`]))
  if (manager === undefined) return `found no package manager that it knows (${known.join(', ')})`

  const isRoot = process.getuid?.() === 0
  if (!isRoot && !succeeds('sudo', ['-n', 'true'])) return `may not use ${manager} (neither root nor sudo without a password)`

  console.error(`Installing ${name} with ${manager} (only this once) …`)
  const shell = ['sh', '-c', scripts[manager] ?? '']
  const { status, stdout, stderr } = spawnSync(isRoot ? 'env' : 'sudo', isRoot ? shell : ['-n', ...shell], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    timeout: installTimeoutMs,
  })
  if (status === 0) return undefined
  console.error(`${stdout}${stderr}`.slice(-4000))
  return `${manager} did not install one`
}

/**
 * Debian's and Ubuntu's server packages start a service with the package's name when they are installed, and at every boot.
 * `policy-rc.d` is their way to prevent the first; the administrator's own is left alone.
 */
export function aptScript(...packages: string[]): string {
  return `
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q || true
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
fi
apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends ${packages.join(' ')}
if command -v systemctl >/dev/null; then systemctl disable ${packages.join(' ')} >/dev/null 2>&1 || true; fi
`
}

function succeeds(command: string, args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 10_000 }).status === 0
}
