/** The real engine process, except that it loads its model only once there is a file `open` in its CACHE_DIR. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EngineOptions } from '../src/engine/protocol.ts'

const { cacheDir = '' } = JSON.parse(process.argv[2] ?? '{}') as EngineOptions
while (!existsSync(join(cacheDir, 'open')) && process.connected) await sleep(10)
await import('../src/engine/engine-main.ts')
