import { defineConfig } from 'vitest/config'

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
    exclude: ['**/node_modules/**', '**/*.faults.test.ts', 'scripts/packages/**'],
    // Every test file runs in a child process of its own: the engine's native libraries do not survive worker threads.
    pool: 'forks',
    maxWorkers: 2,
    // Against what never ends: a machine with other work takes several times as long as a quiet one.
    testTimeout: 90_000,
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 60_000,
  },
})
