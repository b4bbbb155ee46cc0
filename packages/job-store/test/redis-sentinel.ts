/**
 * Owns a real master, its replica and a Sentinel that watches them, on this machine.
 *
 * Invariant: all three are gone when their starter has called `stop()` or has exited. Knows nothing about jobs. Runs in test processes.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { askOnce, until } from './redis-cluster.ts'
import { findFreePort, findRedisServer, type RedisServer, startRedis } from './redis-server.ts'

const masterName = 'easel-master'

export interface SentinelGroup {
  /** What the services need to find the master. */
  readonly variables: Record<string, string>
  readonly master: RedisServer
  readonly replica: RedisServer
  /** The port of the master, as the Sentinel reports it. */
  findMaster(): Promise<number>
  stop(): Promise<void>
}

export async function startSentinelGroup(): Promise<SentinelGroup> {
  const cleanups: (() => unknown)[] = []
  const stop = async (): Promise<void> => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
  }
  const start = async (args: string[]): Promise<RedisServer> => {
    const server = await startRedis({ appendonly: true, args: ['--repl-diskless-sync-delay', '0', ...args] })
    cleanups.push(() => server.stop())
    return server
  }
  try {
    const master = await start([])
    const replica = await start(['--replicaof', '127.0.0.1', String(master.port)])
    await until(async () => (await askOnce<string>(replica.port, ['INFO', 'replication'])).includes('master_link_status:up'))

    const dir = await mkdtemp(join(tmpdir(), 'easel-sentinel-'))
    cleanups.push(() => rm(dir, { recursive: true, force: true }))
    const port = await findFreePort()
    const file = join(dir, 'sentinel.conf')
    await writeFile(
      file,
      `port ${port}
bind 127.0.0.1
dir ${dir}
sentinel monitor ${masterName} 127.0.0.1 ${master.port} 1
sentinel down-after-milliseconds ${masterName} 1000
sentinel failover-timeout ${masterName} 5000
`,
    )
    const binary = findRedisServer()
    if (binary === undefined) throw new Error('Expected redis-server or valkey-server on this machine, got none')
    const child = spawn(binary, [file, '--sentinel'], { stdio: 'ignore' })
    const killAtExit = (): void => void child.kill('SIGKILL')
    process.once('exit', killAtExit)
    cleanups.push(async () => {
      process.off('exit', killAtExit)
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'close')
      child.kill('SIGTERM')
      await ended
    })
    // It must know the replica before it can promote it.
    await until(async () => (await askOnce<unknown[]>(port, ['SENTINEL', 'REPLICAS', masterName])).length === 1)
    return {
      variables: { REDIS_SENTINELS: `127.0.0.1:${port}`, REDIS_SENTINEL_MASTER: masterName },
      master,
      replica,
      async findMaster() {
        const [, found] = await askOnce<[string, string]>(port, ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', masterName])
        return Number(found)
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}
