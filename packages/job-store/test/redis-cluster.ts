/**
 * Owns a real Redis Cluster on this machine: three masters that share the slots, and one replica of the master that holds a given slot.
 * The services connect as a user with the rights in docs/redis.md.
 *
 * Invariant: every server of it is gone when its starter has called `stop()` or has exited. Knows nothing about jobs. Runs in test processes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { clusterAclRules } from './acl-rules.ts'
import { findFreePort, type RedisServer, startRedis } from './redis-server.ts'

const slots = 16_384
const masters = 3
const password = 'cluster-test'

export interface RedisCluster {
  /** What the services need to find it: two of its nodes, one of which may be gone. */
  readonly variables: Record<string, string>
  readonly nodes: readonly RedisServer[]
  /** A master that does not hold the slot. */
  readonly other: RedisServer
  /** The master that holds the slot. */
  readonly holder: RedisServer
  /** Resolves when every slot is served and all nodes know it. */
  untilWhole(): Promise<void>
  /** The port of the node that the other nodes see as master of the slot. */
  findHolder(): Promise<number>
  stop(): Promise<void>
}

/** `key`: any key with the hash tag whose slot the replicated master holds. Data is flushed to disk at every write. */
export async function startRedisCluster(key: string): Promise<RedisCluster> {
  const servers: RedisServer[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.stop()))
  }
  try {
    const buses = await Promise.all(Array.from({ length: masters + 1 }, () => findFreePort()))
    for (const bus of buses) servers.push(await startNode(bus))
    const ask = <T>(server: RedisServer, ...words: (string | number)[]): Promise<T> => askOnce<T>(server.port, words)
    const [first, ...rest] = servers as [RedisServer, ...RedisServer[]]
    const slot = await ask<number>(first, 'CLUSTER', 'KEYSLOT', key)
    for (const [i, server] of servers.entries()) await ask(server, 'CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    const edge = (i: number): number => Math.floor((slots * i) / masters)
    for (let i = 0; i < masters; i++) {
      await ask(servers[i] as RedisServer, 'CLUSTER', 'ADDSLOTSRANGE', edge(i), edge(i + 1) - 1)
    }
    for (const [i, server] of rest.entries()) await ask(first, 'CLUSTER', 'MEET', '127.0.0.1', server.port, buses[i + 1] as number)

    const holderIndex = Math.floor((slot * masters) / slots)
    const [holder, replica] = [servers[holderIndex], servers[masters]] as [RedisServer, RedisServer]
    const other = servers[(holderIndex + 1) % masters] as RedisServer
    const untilWhole = async (): Promise<void> => {
      for (const server of servers) {
        await until(async () => {
          const info = await ask<string>(server, 'CLUSTER', 'INFO')
          const nodes = await ask<string>(server, 'CLUSTER', 'NODES')
          return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${servers.length}`) && !nodes.includes('fail')
        })
      }
    }
    await untilWhole()
    await ask(replica, 'CLUSTER', 'REPLICATE', await ask<string>(holder, 'CLUSTER', 'MYID'))
    await until(async () => (await ask<string>(replica, 'INFO', 'replication')).includes('master_link_status:up'))
    await untilWhole()

    return {
      variables: { REDIS_URL: [other, holder].map(({ port }) => `redis://easel:${password}@127.0.0.1:${port}`).join(',') },
      nodes: servers,
      other,
      holder,
      untilWhole,
      async findHolder() {
        const witness = servers[(holderIndex + 2) % masters] as RedisServer
        const ranges = await ask<[number, number, [string, number]][]>(witness, 'CLUSTER', 'SLOTS')
        return ranges.find(([from, to]) => from <= slot && slot <= to)?.[2][1] ?? 0
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function startNode(bus: number): Promise<RedisServer> {
  const timeout = ['--cluster-node-timeout', '1500', '--cluster-replica-validity-factor', '0']
  // A node without a replica may be gone; the slots of the others are still served.
  const cluster = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-require-full-coverage', 'no', ...timeout]
  const user = ['--user', 'easel', 'on', `>${password}`, ...clusterAclRules.split(' ')]
  return startRedis({ appendonly: true, args: [...cluster, ...user, '--repl-diskless-sync-delay', '0'] })
}

/** One command on a connection of its own. */
export async function askOnce<T>(port: number, [command, ...words]: (string | number)[]): Promise<T> {
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true, retryStrategy: null })
  client.on('error', () => {})
  try {
    return (await client.call(String(command), ...words)) as T
  } finally {
    client.disconnect()
  }
}

/** Checks until the condition holds. A server that does not answer counts as "not yet". */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  for (;;) {
    if (await condition().catch(() => false)) return
    await sleep(100)
  }
}
