/**
 * Owns the step from `npm run NAME` to a TypeScript file on Node 24: sets up what is missing, then runs the file and ends as it ends.
 *
 * Invariant: a signal that reaches this process reaches the script, so that nothing outlives the command. Knows nothing about what the
 * script does. Runs in the entry scripts, on any Node from 20 up.
 */
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureDependencies } from './ensure-dependencies.js'

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/**
 * @param {string} script path in the project, run with the project's folder as working directory
 * @param {string[]} fixedArgs arguments before those of the command line
 */
export function runScript(script, fixedArgs = []) {
  let node
  try {
    node = ensureDependencies(ROOT)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
    return
  }

  const child = spawn(node, [join(ROOT, script), ...fixedArgs, ...process.argv.slice(2)], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, PATH: `${join(ROOT, 'node_modules', '.bin')}${delimiter}${process.env['PATH'] ?? ''}` },
  })
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    console.error(`Could not start ${node}: ${error.message}`)
    process.exitCode = 1
  })
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
  })
}
