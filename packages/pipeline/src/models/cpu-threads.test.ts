import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, platform } from 'node:os'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { defaultCpuThreads } from './cpu-threads.ts'

const output = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' }).trim()

/** The number of threads, and of cores by Node.js's count, in a process that may use the cores in this list. */
function countsOn(cores: string): number[] {
  const module = JSON.stringify(fileURLToPath(new URL('cpu-threads.ts', import.meta.url)))
  const counts = '[defaultCpuThreads(), availableParallelism()]'
  const script = `import { availableParallelism } from 'node:os'; import { defaultCpuThreads } from ${module}; console.log(JSON.stringify(${counts}))`
  return JSON.parse(output('taskset', '-c', cores, process.execPath, '--input-type=module', '-e', script)) as number[]
}

test('there is at least one thread, and no more than the process may use cores', () => {
  expect(defaultCpuThreads()).toBeGreaterThanOrEqual(1)
  expect(defaultCpuThreads()).toBeLessThanOrEqual(availableParallelism())
})

test.runIf(platform() === 'linux' && existsSync('/usr/bin/lscpu'))(
  'a process that may use all cores gets a thread for each physical one',
  () => {
    const physical = new Set(
      output('lscpu', '--parse=core,socket')
        .split('\n')
        .filter((line) => !line.startsWith('#')),
    ).size
    const [threads, usable] = countsOn(`0-${cpus().length - 1}`)
    expect(threads).toBe(Math.min(physical, usable as number))
  },
)

test.runIf(platform() === 'linux' && cpus().length > 1)('a process that may use one core gets one thread, on a machine with more', () => {
  // This process itself may not be allowed to use the first core of the machine.
  const [, core] = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) as unknown as [string, string]
  expect(countsOn(core)).toEqual([1, 1])
})
