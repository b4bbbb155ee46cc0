import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ownMemoryBytes } from './own-memory.ts'

const mib = 2 ** 20

test.runIf(existsSync('/proc/self/status'))(
  'memory that the process has written counts, and pages of the files that it maps do not',
  () => {
    const before = ownMemoryBytes()
    const taken = Buffer.alloc(256 * mib, 1)
    const after = ownMemoryBytes()
    expect(after - before).toBeGreaterThan(128 * mib)
    // Node.js itself is a mapped file. The system may have taken most of its pages back, but not those that run now.
    expect(process.memoryUsage.rss() - after).toBeGreaterThan(mib)
    expect(taken[0]).toBe(1)
  },
)
