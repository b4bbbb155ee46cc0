/**
 * The step from `npm run NAME` or `easel` to a TypeScript file on Node 24: sets up what is missing, then runs the file and exits with its exit
 * code.
 *
 * Invariant: a signal that reaches this process reaches the script, and a script whose starter was killed ends too, so that nothing
 * outlives the command. Knows nothing about what the script does. Runs in the entry scripts, on any Node from 20 up.
 */
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureDependencies } from './ensure-dependencies.js'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/**
 * Sets up what is missing. If something could not be set up, says so and makes this process end with 1.
 * @returns {string | undefined} the path of a Node ≥ 24
 */
export function prepare() {
  try {
    return ensureDependencies(root)
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
    return undefined
  }
}

/**
 * @param {string} script path in the project
 * @param {string[]} fixedArgs arguments before those of the command line
 */
export function runScript(script, fixedArgs = []) {
  const node = prepare()
  if (node === undefined) return
  const args = [join(root, script), ...fixedArgs, ...process.argv.slice(2)]
  const env = { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}${delimiter}${process.env['PATH'] ?? ''}` }
  // If this Node can replace itself with another program, it does, because one process is then enough.
  if (process.execve !== undefined && process.platform !== 'win32') process.execve(node, [node, ...args], env)

  const preload = join(root, 'packages', 'cli', 'src', 'services', 'end-with-parent.ts')
  const child = spawn(node, ['--import', preload, ...args], { stdio: 'inherit', env: { ...env, EASEL_PARENT_PID: String(process.pid) } })
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    console.error(`Could not start ${node}: ${error.message}`)
    process.exitCode = 1
  })
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
  })
}
