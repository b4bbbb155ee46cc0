/** Copies of the engine, each in its own process with one thread: what one would use without batching. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { GenerateParams } from '@easel/pipeline'
import type { SlotResult } from './in-flight.ts'

export interface ReplicaTask {
  readonly requests: number
  readonly params: Partial<GenerateParams>
}

export interface Replicas {
  /** Distributes the requests, one at a time to each replica, and waits for the last. */
  runRequests(requests: number, params: Partial<GenerateParams>): Promise<SlotResult>
  close(): Promise<void>
}

export async function startReplicas(count: number): Promise<Replicas> {
  const entry = fileURLToPath(new URL('replica-process.ts', import.meta.url))
  const children = Array.from({ length: count }, () => fork(entry, { execArgv: [], serialization: 'advanced' }))
  await Promise.all(children.map((child) => answer(child)))
  return {
    async runRequests(requests, params) {
      const startedAt = performance.now()
      const parts = await Promise.all(
        children.map(async (child, index) => {
          const share = Math.floor((requests + index) / count)
          child.send({ requests: share, params } satisfies ReplicaTask)
          return await answer(child)
        }),
      )
      const steps = parts.flatMap((part) => part?.steps ?? [])
      return { ms: performance.now() - startedAt, steps, rows: steps.reduce((sum, rows) => sum + rows, 0), requests }
    },
    async close() {
      await Promise.all(
        children.map(async (child) => {
          if (child.exitCode !== null || child.signalCode !== null) return
          const exited = once(child, 'exit')
          child.disconnect()
          await exited
        }),
      )
    },
  }
}

/** The next message; rejects when the process ends before it. */
async function answer(child: ChildProcess): Promise<SlotResult | undefined> {
  const over = new AbortController()
  try {
    return await Promise.race([
      once(child, 'message', { signal: over.signal }).then(([message]) => (message as { slot?: SlotResult }).slot),
      once(child, 'exit', { signal: over.signal }).then(([code]) => {
        throw new Error(`Expected the replica to answer, got exit code ${String(code)}`)
      }),
    ])
  } finally {
    over.abort()
  }
}
