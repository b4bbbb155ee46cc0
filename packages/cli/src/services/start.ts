/**
 * Owns `easel start`, `easel api` and `easel worker`: Redis, the services, and their clean shutdown.
 *
 * Invariant: when it ends, everything it started has ended, Redis last. The first Ctrl-C lets running jobs finish, the second ends
 * everything at once. A single service with an external Redis needs no supervisor: this process becomes that service. Configuration is the
 * environment and `.env`; the services define what each variable means.
 */
import { once } from 'node:events'
import { join } from 'node:path'
import { openEmbeddedRedis } from '../setup/embedded-redis.ts'
import { ensurePlayground } from '../setup/ensure-playground.ts'
import { endWithParent, handOverMs, shutdownGraceMs, starterPid } from './end-with-parent.ts'
import { chooseFirstAddress, type FirstAddress } from './first-address.ts'
import {
  endServices,
  failWhenOneEnds,
  type ServiceName,
  type ServiceProcess,
  startService,
  toServiceCommand,
  untilReady,
} from './service-process.ts'
import { onStopSignals } from './stop-signals.ts'

/**
 * Runs from the project's folder. Resolves with the exit code when everything has ended.
 * `data`: the folder for what outlives a start: the embedded Redis's data and, unless STORAGE_DIR says otherwise, the pictures.
 */
export async function start(names: ServiceName[], { data }: { data: string }): Promise<number> {
  // npm passes signals on, but cannot do so when it is killed itself.
  const starter = starterPid ?? (process.env['npm_lifecycle_event'] === undefined ? undefined : process.ppid)
  if (names.includes('api')) buildPages()
  const address = chooseFirstAddress(process.env)
  process.env['STORAGE_DIR'] ||= join(data, 'images')
  const redisUrl = process.env['REDIS_URL'] || undefined
  const [only] = names
  if (redisUrl !== undefined && names.length === 1 && only !== undefined && process.execve !== undefined) {
    if (only === 'api') console.log(toFirstLines(address))
    const { args, env } = toServiceCommand(only, { ...process.env, ...address.env }, starter)
    become(process.execPath, args, env)
  }
  if (starter !== undefined && starter !== starterPid) endWithParent(starter)
  return await supervise(names, { redisUrl, address, data })
}

/** Never returns: the program takes over this process with its id and its terminal. */
function become(program: string, args: string[], env: NodeJS.ProcessEnv): never {
  const defined = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined)
  process.execve?.(program, [program, ...args], Object.fromEntries(defined))
  throw new Error(`Expected ${program} to take this process over`)
}

interface SupervisedStart {
  /** The URL of an external Redis; undefined for the embedded one. */
  redisUrl: string | undefined
  address: FirstAddress
  data: string
}

async function supervise(names: ServiceName[], { redisUrl, address, data }: SupervisedStart): Promise<number> {
  const stopping = new AbortController()
  const services: ServiceProcess[] = []
  // As for the api itself, a SIGHUP means that the file of keys has changed; without such a file, that the terminal is gone.
  const hasKeysFile = names.includes('api') && (process.env['API_KEYS_FILE'] ?? '').trim() !== ''
  onStopSignals(
    () => {
      console.error('\nStopping: running jobs may finish. Press again to end at once.')
      stopping.abort()
    },
    () => process.exit(130),
    hasKeysFile ? 'SIGHUP' : undefined,
  )
  if (hasKeysFile) process.on('SIGHUP', () => services.find(({ name }) => name === 'api')?.hangUp())
  let redis: { url: string; stop(): Promise<void> } | undefined
  let failure: string | undefined
  try {
    redis = redisUrl === undefined ? await openEmbeddedRedis(join(data, 'redis')) : undefined
    const env = { ...process.env, ...address.env, REDIS_URL: redis?.url ?? redisUrl }
    for (const name of names) services.push(startService(name, env))
    const announced = announce(services, address, stopping.signal)
    await Promise.race([failWhenOneEnds(services), announced.then(() => untilAborted(stopping.signal))])
  } catch (error) {
    if (!stopping.signal.aborted) failure = error instanceof Error ? error.message : String(error)
  }
  stopping.abort()
  await endServices(services, shutdownGraceMs() + handOverMs)
  await redis?.stop()
  // Printed last, where the user looks.
  if (failure !== undefined) console.error(failure)
  return failure === undefined ? 0 : 1
}

/** The api works without its pages, so it starts even if the checkout cannot be written to. */
function buildPages(): void {
  try {
    ensurePlayground()
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
  }
}

/** Says where the api is, once it answers and, where a worker is started with it, once that worker takes jobs. */
async function announce(services: ServiceProcess[], address: FirstAddress, signal: AbortSignal): Promise<void> {
  if (!services.some(({ name }) => name === 'api')) return
  if (!services.some(({ name }) => name === 'gpu-worker')) {
    await Promise.all(services.map(async (service) => await service.ready))
    console.log(`The api answers at ${address.url} and takes jobs once a worker runs (npm run start:worker).\n${toFirstLines(address)}`)
    return
  }
  await untilReady(services, address.url, signal)
  const url = process.env['PUBLIC_URL'] || address.url
  console.log(`Easel is ready: open ${url} in a browser, or post jobs to it.\n${toFirstLines(address)}`)
}

function toFirstLines({ isLocalOnly }: FirstAddress): string {
  if (!isLocalOnly) return ''
  return 'Only this machine can reach it, because it asks for no key. For others, set API_KEYS; with HOST=0.0.0.0 it is open without keys.'
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}
