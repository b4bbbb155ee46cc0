/**
 * The real engine process with memory faults that words in a prompt trigger: `leak` takes 600 MiB and never gives it back, `fragmented` finds
 * no memory in a process that has run another call, and `insatiable` never finds any.
 */
import { isOutOfMemory } from '@easel/pipeline'
import type { FromEngine, ToEngine } from '../src/engine/protocol.ts'

const outOfMemory = 'Failed to allocate memory for requested buffer of size 1'
if (!isOutOfMemory(new Error(outOfMemory))) throw new Error('Expected the library to know this sentence')

const leaked: Buffer[] = []
const failing = new Set<string>()
let calls = 0

process.on('message', (message: ToEngine) => {
  if (message.type !== 'generate') return
  const { prompt } = message.params
  if (prompt.includes('leak')) leaked.push(Buffer.alloc(600 * 2 ** 20, 1))
  if (prompt.includes('insatiable') || (prompt.includes('fragmented') && calls > 0)) failing.add(message.id)
  calls++
})

// The real host runs the call and then reports the end as if an allocation had failed.
const send = process.send?.bind(process) as (message: FromEngine, callback: () => void) => boolean
process.send = ((message: FromEngine, callback: () => void) => {
  if (!('id' in message) || message.id === undefined || !failing.has(message.id)) return send(message, callback)
  if (message.type === 'image') return true
  if (message.type !== 'done') return send(message, callback)
  const { id, memoryBytes } = message
  return send({ type: 'error', id, code: 'out_of_memory', message: outOfMemory, memoryBytes }, callback)
}) as typeof process.send
await import('../src/engine/engine-main.ts')
