/**
 * The real engine process, except that words in a prompt hold up its thread before the call begins: `slow` computes for a few seconds,
 * `endless` computes for ever, and `hang` stops the process.
 */
import type { ToEngine } from '../src/engine/protocol.ts'

const slowMs = 3500

process.on('message', (message: ToEngine) => {
  if (message.type !== 'generate') return
  const { prompt } = message.params
  if (prompt.includes('slow')) compute(slowMs)
  if (prompt.includes('endless')) compute(Infinity)
  if (prompt.includes('hang')) process.kill(process.pid, 'SIGSTOP')
})
await import('../src/engine/engine-main.ts')

function compute(ms: number): void {
  const endsAt = performance.now() + ms
  while (performance.now() < endsAt);
}
