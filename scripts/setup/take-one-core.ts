/**
 * Gives a test file one core: this process and all that it starts run there, and ONNX Runtime then uses one thread. With as many threads as
 * there are cores, in several processes at once, most threads would spin while they wait for threads that another process has displaced.
 *
 * Only on Linux, where `taskset` is part of every distribution; elsewhere the system places the processes. Knows nothing about the tests. Runs
 * in each test process of vitest, before its file is loaded.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { platform } from 'node:os'

if (platform() === 'linux') {
  const cores = allowedCores()
  // The files of one run take the cores in turn; each run begins at a different core, so that several runs do not all use the first.
  const core = cores[(Number(process.env['VITEST_POOL_ID'] ?? 1) + process.ppid) % cores.length]
  spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(core), String(process.pid)])
}

/** The numbers of the cores on which this process may run. */
function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, at) => first + at)
  })
}
