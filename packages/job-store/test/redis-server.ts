/**
 * Owns one real Redis server for a test, on a free port, with everything that tests do to servers: crash, freeze, start again.
 *
 * Invariant: every server started here is gone when its starter has called `stop()` or has ended. Knows nothing about queues, jobs or clients.
 */
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFreePort, isPortTaken, startRedisProcess, type RedisProcess, type RedisProcessOptions } from '@easel/redis-server'

export { findFreePort, findRedisServer } from '@easel/redis-server'

/** Another process may take a free port before the server binds it, so several are tried. */
const portAttempts = 5

export interface RedisOptions extends Omit<RedisProcessOptions, 'port' | 'dir' | 'image'> {
  /** TCP port on 127.0.0.1, 1–65535. Default: a free one. */
  port?: number
  /** Folder for the data, made if missing and never deleted. Default: a temporary one, deleted by `stop()`. */
  dir?: string
}

export interface RedisServer {
  /** `redis://127.0.0.1:PORT`; the same after `restart()`. */
  readonly url: string
  readonly port: number
  /** Shuts down cleanly and deletes the temporary folder. May be called twice. */
  stop(): Promise<void>
  /** Ends the process at once, as a crash would. The data folder stays for `restart()`. */
  kill(): Promise<void>
  /** Starts again on the same port and data folder; a server that still runs is first shut down cleanly. */
  restart(): Promise<void>
  /** Freezes the server: connections stay open, but nothing answers. */
  pause(): void
  /** Ends `pause()`. */
  resume(): void
}

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'easel-redis-')))
  const removeDir = () => {
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true })
  }
  const image = process.env['REDIS_IMAGE']
  const launch = async (port: number) => await startRedisProcess({ ...options, port, dir, image })

  let port = options.port ?? (await findFreePort())
  let running: RedisProcess
  for (let attempt = 1; ; attempt++) {
    try {
      running = await launch(port)
      break
    } catch (error) {
      if (options.port !== undefined || attempt === portAttempts || !isPortTaken(error)) {
        removeDir()
        throw error
      }
      port = await findFreePort()
    }
  }

  const stop = async () => {
    // A frozen server would never notice the signal.
    running.signal('SIGCONT')
    await running.stop()
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    async stop() {
      await stop()
      removeDir()
    },
    async kill() {
      running.signal('SIGKILL')
      await running.ended
    },
    async restart() {
      await stop()
      running = await launch(port)
    },
    pause: () => running.signal('SIGSTOP'),
    resume: () => running.signal('SIGCONT'),
  }
}
