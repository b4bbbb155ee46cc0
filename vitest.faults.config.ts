import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['packages/*/{src,test}/**/*.faults.test.ts', 'services/*/{src,test}/**/*.faults.test.ts'],
    // One file at a time: these tests kill processes and wait out time limits, and must not slow each other down.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 300_000,
    expect: { poll: { timeout: 20_000 } },
    hookTimeout: 120_000,
    passWithNoTests: true,
  },
})
