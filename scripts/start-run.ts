/**
 * Owns `npm start`, `npm run start:api` and `npm run start:worker`: Redis, the services named on the command line, and their orderly end.
 *
 * Invariant: when it ends, everything it started has ended, Redis last. The first Ctrl-C lets running jobs finish, the second ends at
 * once. Configuration is the environment and `.env`; what a variable means is the services' business. Runs on Node 24.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { endServices, failWhenOneEnds, type ServiceName, type ServiceProcess, startService, untilOk } from './service-process.ts'
import { openEmbeddedRedis } from './setup/embedded-redis.ts'
import { ensurePlayground } from './setup/ensure-playground.ts'
import { onStopSignals } from './stop-signals.ts'

/** Longer than any service takes to hand over after its own SHUTDOWN_GRACE (seconds). */
const HAND_OVER_MS = 15_000

const stopping = new AbortController()
onStopSignals(
  () => {
    console.error('\nStopping: running jobs may finish. Once more to end at once.')
    stopping.abort()
  },
  () => process.exit(130),
)
if (existsSync('.env')) process.loadEnvFile('.env')
process.exitCode = await main(process.argv.slice(2) as ServiceName[])

async function main(names: ServiceName[]): Promise<number> {
  const services: ServiceProcess[] = []
  let redis: { url: string; stop(): Promise<void> } | undefined
  try {
    if (names.includes('api')) buildPages()
    redis = process.env['REDIS_URL'] === undefined ? await openEmbeddedRedis('data/redis') : undefined
    const env = { ...process.env, REDIS_URL: redis?.url ?? process.env['REDIS_URL'] }
    for (const name of names) services.push(startService(name, env))
    const announced = names.includes('api') ? announce(names) : undefined
    await Promise.race([failWhenOneEnds(services), announced?.then(untilStopped) ?? untilStopped()])
    return 0
  } catch (error) {
    if (stopping.signal.aborted) return 0
    console.error(error instanceof Error ? error.message : error)
    return 1
  } finally {
    stopping.abort()
    await endServices(services, Number(process.env['SHUTDOWN_GRACE'] ?? 30) * 1000 + HAND_OVER_MS)
    await redis?.stop()
  }
}

/** The api works without its pages, so a checkout that cannot be written to is no reason not to start. */
function buildPages(): void {
  try {
    ensurePlayground()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
  }
}

/** Says where the api is, once it answers and once it takes jobs. */
async function announce(names: ServiceName[]): Promise<void> {
  const port = process.env['PORT'] ?? '8500'
  const host = process.env['HOST'] ?? '0.0.0.0'
  const local = `http://${host === '0.0.0.0' || host === '::' ? 'localhost' : host}:${port}`
  if (!names.includes('gpu-worker')) {
    await untilOk(`${local}/livez`, stopping.signal)
    console.log(`The api answers at ${local} and takes jobs once a worker has started (npm run start:worker).`)
  }
  await untilOk(`${local}/readyz`, stopping.signal)
  console.log(`Easel is ready: open ${process.env['PUBLIC_URL'] ?? local} in a browser, or post jobs to it.`)
}

async function untilStopped(): Promise<void> {
  if (!stopping.signal.aborted) await once(stopping.signal, 'abort')
}
