/** The engine process of a model with a file whose read never returns, as on a mount whose server is gone. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EngineOptions } from '../src/engine/protocol.ts'

process.on('disconnect', () => process.exit(0))
const { model, modelsDir } = JSON.parse(process.argv[2] ?? '{}') as EngineOptions
await readFile(join(modelsDir, model, 'stuck'))
await import('../src/engine/engine-main.ts')
