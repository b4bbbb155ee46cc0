/**
 * Owns a test run: static checks if they belong to it, then one vitest configuration, then one line with the numbers of tests.
 *
 * Invariant: everything is run even if something before it has failed, and the exit code is 0 only if nothing has. Knows nothing about what is
 * tested. Runs on Node 24, started by test.js (all checks and tests), test-faults.js (the long fault tests only) and test-packages.js
 * (the packages installed elsewhere).
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensurePlayground } from '../packages/cli/src/setup/ensure-playground.ts'
import { ensureRedisServer } from '../packages/cli/src/setup/ensure-redis.ts'
import { ensureTestPrograms } from './setup/ensure-test-programs.ts'

const checks = [
  { name: 'types', command: 'tsc', args: ['--noEmit', '-p', 'tsconfig.json'] },
  { name: 'types of the packages, as far as Node 20 has them', command: 'tsc', args: ['--noEmit', '-p', 'tsconfig.packages.json'] },
  { name: 'types of the playground', command: 'tsc', args: ['--noEmit', '-p', 'services/api/playground/tsconfig.json'] },
  { name: 'lint', command: 'oxlint', args: ['--type-aware', '--deny-warnings'] },
  { name: 'format', command: 'oxfmt', args: ['--check'] },
  { name: 'unused code', command: 'knip', args: [] },
]

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

const [config = 'vitest.config.ts', ...vitestArgs] = process.argv.slice(2)
/** Whether to run all checks and tests, or only the long fault tests. */
const isComplete = config === 'vitest.config.ts'
process.exitCode = await main()

async function main(): Promise<number> {
  try {
    ensureRedisServer()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    return 1
  }
  if (isComplete) ensureTestPrograms()

  const failedPhases: string[] = []
  for (const { name, command, args } of isComplete ? checks : []) {
    const startedAt = performance.now()
    const code = await run(command, args)
    console.log(`${code === 0 ? 'ok    ' : 'FAILED'}  ${name} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`)
    if (code !== 0) failedPhases.push(name)
  }

  if (isComplete && !buildPages()) failedPhases.push('build of the pages')
  const { code, passed, failed, skipped } = await runVitest()
  if (code !== 0) failedPhases.push('tests')
  if (code === 0 && passed + failed + skipped === 0) console.log(`There are no tests for ${config} yet.`)

  if (failedPhases.length > 0) console.log(`Failed: ${failedPhases.join(', ')}`)
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  return failedPhases.length === 0 ? 0 : 1
}

/** Builds the pages before any test needs them, because a test file that built them would take them away from another that is using them. */
function buildPages(): boolean {
  try {
    ensurePlayground()
    return true
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    return false
  }
}

async function runVitest(): Promise<{ code: number; passed: number; failed: number; skipped: number }> {
  const dir = mkdtempSync(join(tmpdir(), 'easel-test-'))
  const report = join(dir, 'report.json')
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
    const code = await run('vitest', ['run', '--config', config, ...reporters, ...vitestArgs])
    return { code, ...countTests(report, code) }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** The part of vitest's JSON report that is counted. */
interface VitestReport {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  /** One entry for each file. A file that could not be loaded has failed without a failed test. */
  testResults: { status: string; assertionResults: { status: string }[] }[]
}

function countTests(path: string, code: number): { passed: number; failed: number; skipped: number } {
  let report: VitestReport
  try {
    report = JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return { passed: 0, failed: code === 0 ? 0 : 1, skipped: 0 }
  }
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  ).length
  const failed = report.numFailedTests + brokenFiles
  return {
    passed: report.numPassedTests,
    // An error outside any test (an unhandled rejection) fails the run too.
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
  }
}

/** Runs a tool of node_modules/.bin, which the entry script has put first in PATH, and resolves with its exit code. */
async function run(command: string, args: string[]): Promise<number> {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  const stop = (signal: NodeJS.Signals) => {
    child.once('exit', () => process.exit(128 + constants.signals[signal]))
    child.kill(signal)
  }
  for (const signal of stopSignals) process.once(signal, stop)
  try {
    return await new Promise<number>((resolve) => {
      child.once('error', (error) => {
        console.error(`${command}: ${error.message}`)
        resolve(1)
      })
      child.once('exit', (code) => resolve(code ?? 1))
    })
  } finally {
    for (const signal of stopSignals) process.off(signal, stop)
  }
}
