import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['scripts/packages/*.test.ts', 'scripts/pages/commands.test.ts'],
    pool: 'forks',
    testTimeout: 300_000,
    hookTimeout: 120_000,
  },
})
