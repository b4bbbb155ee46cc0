import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './scripts/setup/longest-first.ts'

export default defineConfig({
  test: {
    include: [
      'packages/*/{src,test}/**/*.test.ts',
      'services/*/{src,test}/**/*.test.ts',
      'services/api/playground/test/**/*.test.ts',
      'examples/**/*.test.ts',
      'bench/**/*.test.ts',
      'deploy/**/*.test.ts',
      'scripts/**/*.test.ts',
    ],
    exclude: ['**/node_modules/**', '**/*.faults.test.ts', 'scripts/packages/**', 'scripts/pages/commands.test.ts'],
    // Every test file runs in a child process of its own: the engine's native libraries do not survive worker threads.
    pool: 'forks',
    // Many tests wait, for a pause between two attempts or for a process to start, so more files than cores run at once to use that time.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    setupFiles: ['scripts/setup/take-one-core.ts'],
    // Compiled code is kept for the next process that loads the same module. Tests start hundreds of processes.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL('.cache/compiled', import.meta.url)) },
    // Only for tests that would never end: a busy machine takes several times as long as a quiet one.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
  },
})
