/**
 * Owns what the tests of deploy/prometheus and deploy/grafana want and can do without: Prometheus, and promtool, which comes with it.
 *
 * Invariant: nothing is installed when both are already there, and nothing fails without them: those tests are skipped, and it is said.
 * Runs in the test script.
 */
import { spawnSync } from 'node:child_process'
import { aptScript, installProgram } from './install-program.ts'

export function ensurePrometheus(): void {
  if (isInstalled()) return
  const failure = installProgram({ name: 'Prometheus', scripts: { 'apt-get': aptScript('prometheus') } })
  if (isInstalled()) return
  console.error(
    `Tests of alerts and dashboard with a real Prometheus are SKIPPED: expected prometheus and promtool on PATH, got none and ${failure ?? 'the package brought none'}.`,
  )
}

function isInstalled(): boolean {
  return ['prometheus', 'promtool'].every((command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).error === undefined)
}
