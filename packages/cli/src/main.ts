/** Entry of the command line on Node 24: the commands with their arguments. What each does is in a module of its own, loaded when it runs. */
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import type { ServiceName } from './services/service-process.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** Paths on the command line are meant from where it was given. */
const here = process.cwd()

const easel = new Command('easel').description('Self-hosted text-to-image with Stable Diffusion 3.').helpCommand(false)

const services: Record<string, { names: ServiceName[]; summary: string }> = {
  start: { names: ['api', 'gpu-worker'], summary: 'the whole service: Redis (unless REDIS_URL names one), the api and one worker' },
  api: { names: ['api'], summary: 'the api' },
  worker: { names: ['gpu-worker'], summary: 'a worker' },
}
for (const [name, { names, summary }] of Object.entries(services)) {
  easel
    .command(name)
    .summary(summary)
    .description(`Runs ${summary}. Settings are environment variables or lines of a file .env: docs/variables.md.`)
    .option('--data <folder>', 'folder of the embedded Redis and the pictures', join(ROOT, 'data'))
    .action(async ({ data }: { data: string }) => {
      const { start } = await import('./services/start.ts')
      process.exitCode = await start(names, { data: resolve(here, data) })
    })
}

process.chdir(ROOT)
await easel.parseAsync()
