/**
 * Owns the system programs that some tests use if they are there.
 *
 * Invariant: nothing is installed that exists already, and nothing fails without these programs: their tests are skipped, with a message.
 * Runs in the test script.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { findChromium } from '../find-chromium.ts'
import { aptScript, installProgram } from '../../packages/cli/src/setup/install-program.ts'

interface TestProgram {
  name: string
  /** The names of Debian's packages. */
  packages: string[]
  isInstalled: () => boolean
  /** What is skipped without the program. */
  tests: string
}

const programs: TestProgram[] = [
  {
    name: 'Prometheus',
    packages: ['prometheus'],
    isInstalled: () => ['prometheus', 'promtool'].every((command) => spawnSync(command, ['--version']).error === undefined),
    tests: 'alerts and dashboard with a real Prometheus',
  },
  {
    name: 'Chromium, and Vulkan in software, which comes with it',
    packages: ['chromium', 'libvulkan1'],
    isInstalled: () =>
      findChromium() !== undefined && ['x86_64', 'aarch64'].some((machine) => existsSync(`/usr/lib/${machine}-linux-gnu/libvulkan.so.1`)),
    tests: 'the playground in a real browser, and a model on a GPU provider',
  },
]

export function ensureTestPrograms(): void {
  for (const { name, packages, isInstalled, tests } of programs) {
    if (isInstalled()) continue
    const failure = installProgram({ name, scripts: { 'apt-get': aptScript(...packages) } })
    if (isInstalled()) continue
    console.error(`Tests of ${tests} are SKIPPED: expected ${name}, got none and ${failure ?? 'the packages brought none'}.`)
  }
}
