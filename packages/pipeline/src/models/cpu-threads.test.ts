import { availableParallelism, cpus, platform } from 'node:os'
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { defaultCpuThreads } from './cpu-threads.ts'

test('there is a thread for each core that the process may use', () => {
  expect(defaultCpuThreads()).toBeGreaterThanOrEqual(1)
  expect(defaultCpuThreads()).toBeLessThanOrEqual(availableParallelism())
})

test.runIf(platform() === 'linux' && cpus().length > 1)('a process that may use one core gets one thread, on a machine with more', () => {
  const module = fileURLToPath(new URL('cpu-threads.ts', import.meta.url))
  const script = `import { defaultCpuThreads } from ${JSON.stringify(module)}; console.log(defaultCpuThreads())`
  const output = execFileSync('taskset', ['-c', '0', process.execPath, '--input-type=module', '-e', script], { encoding: 'utf8' })
  expect(output.trim()).toBe('1')
})
