/** An engine process without a model. The first is ready at once and dies at its first call; later ones become ready when told to stop. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EngineOptions, FromEngine, ToEngine } from '../src/engine/protocol.ts'

const { cacheDir = '' } = JSON.parse(process.argv[2] ?? '{}') as EngineOptions
const ready = { type: 'ready', capabilities: { contentHash: 'known' }, memoryBytes: 0 } as FromEngine
process.on('message', (message: ToEngine) => {
  if (message.type === 'generate') process.exit(1)
  if (message.type === 'stop') process.send?.(ready, () => process.exit(0))
})
const mark = join(cacheDir, 'first')
if (!existsSync(mark)) {
  writeFileSync(mark, '')
  process.send?.(ready)
}
