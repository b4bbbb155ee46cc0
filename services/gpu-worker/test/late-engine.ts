/** An engine process without a model. The first is ready at once and dies at its first call; later ones become ready when told to stop. */
import type { EngineOptions, FromEngine, ToEngine } from '../src/engine/protocol.ts'

const { contentHash } = JSON.parse(process.argv[2] ?? '{}') as EngineOptions
const ready = { type: 'ready', capabilities: { contentHash: 'known' }, memoryBytes: 0 } as FromEngine
process.on('message', (message: ToEngine) => {
  if (message.type === 'generate') process.exit(1)
  if (message.type === 'stop') process.send?.(ready, () => process.exit(0))
})
if (contentHash === undefined) process.send?.(ready)
