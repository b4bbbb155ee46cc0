/**
 * Makes Redis connections with the settings that each use needs: to one server, to a Redis Cluster, or to the master that Sentinels name.
 * Every connection has an error listener, because ioredis ends the process without one. Runs in the api and in the worker's main process.
 */
import { readFileSync } from 'node:fs'
import { Cluster, Redis } from 'ioredis'
import type { RedisOptions as IoredisOptions } from 'ioredis'

/** A connection to one server or to a cluster; commands, scripts, transactions and pub/sub work the same on both. */
export type RedisConnection = Redis | Cluster

export interface RedisLocation {
  /** A `redis://` or `rediss://` URL; for a cluster those of one or more nodes, separated by commas. */
  url: string
  /** Whether the URLs are nodes of a Redis Cluster. Default: false. */
  cluster?: boolean
  /** The Sentinels to ask for the master. The URL's credentials, database and TLS apply, its host and port do not. Default none. */
  sentinel?: {
    /** `host:port` for each. */
    addresses: string[]
    /** The name of the master. */
    master: string
    /** The password of the Sentinels themselves. Default none. */
    password?: string
  }
  /** A PEM file with the certificates that must have signed the server's; used with `rediss://`. Default: those that Node.js trusts. */
  tlsCaFile?: string
}

export interface RedisOptions extends RedisLocation {
  /**
   * `request`: commands fail within a few seconds while Redis is away, so that HTTP callers get a 503.
   * `worker`: commands wait without limit for Redis to come back, as BullMQ's workers and subscriptions require.
   */
  use: 'request' | 'worker'
  /** Called on every connection error; ioredis reconnects by itself. */
  onError: (error: Error) => void
}

export function createRedis({ use, onError, ...location }: RedisOptions): RedisConnection {
  const redis = location.cluster === true ? connectCluster(location, use) : connectServer(location, use)
  redis.on('error', onError)
  return redis
}

const retryDelayMs = (attempt: number): number => Math.min(50 * 2 ** Math.min(attempt, 6), 1000)

function connectServer(location: RedisLocation, use: RedisOptions['use']): Redis {
  const { url, sentinel } = location
  const options: IoredisOptions = {
    ...commandOptions(use),
    ...tlsOptions(location),
    ...(use === 'request' ? { enableOfflineQueue: false } : {}),
    connectTimeout: 2000,
    retryStrategy: retryDelayMs,
    // The master has become a replica: connect again, to the new master, and send the command there.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
  }
  if (sentinel === undefined) return new Redis(url, options)
  const { tls } = options
  return new Redis({
    ...options,
    ...credentialsOf(url),
    db: Number(new URL(url).pathname.slice(1)),
    sentinels: sentinel.addresses.map(toAddress),
    name: sentinel.master,
    sentinelRetryStrategy: retryDelayMs,
    sentinelPassword: sentinel.password,
    sentinelTLS: tls,
    enableTLSForSentinelMode: tls !== undefined,
  })
}

function connectCluster(location: RedisLocation, use: RedisOptions['use']): Cluster {
  const urls = splitList(location.url)
  return new Cluster(
    urls.map((url) => toAddress(new URL(url).host)),
    {
      clusterRetryStrategy: retryDelayMs,
      retryDelayOnFailover: 100,
      // Each try waits as above: a request for 1.6 s, a worker until a replica has been promoted or the node is back.
      maxRedirections: use === 'request' ? 16 : Number.POSITIVE_INFINITY,
      enableOfflineQueue: use === 'worker',
      slotsRefreshTimeout: 2000,
      // Names are not resolved, because certificates are issued to names, not to addresses.
      dnsLookup: (address, callback) => callback(null, address),
      redisOptions: { ...commandOptions(use), ...tlsOptions(location), ...credentialsOf(urls[0] ?? ''), connectTimeout: 2000 },
    },
  )
}

function commandOptions(use: RedisOptions['use']): { maxRetriesPerRequest: number | null; commandTimeout?: number } {
  return use === 'request' ? { maxRetriesPerRequest: 1, commandTimeout: 5000 } : { maxRetriesPerRequest: null }
}

function tlsOptions({ url, tlsCaFile }: RedisLocation): Pick<IoredisOptions, 'tls'> {
  if (!url.startsWith('rediss:')) return {}
  return { tls: tlsCaFile === undefined ? {} : { ca: readFileSync(tlsCaFile) } }
}

function credentialsOf(url: string): { username?: string; password?: string } {
  const { username, password } = new URL(url)
  return {
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
  }
}

/** Splits `host:port`; an IPv6 address is in brackets. */
function toAddress(text: string): { host: string; port: number } {
  const [, host = '', port = '6379'] = /^(.*?)(?::([0-9]+))?$/.exec(text) ?? []
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) }
}

/** The items of a comma-separated list. */
export function splitList(text: string): string[] {
  return text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
}

/** Resolves at the first `ready`, or rejects when it does not come in time. */
export async function waitUntilReady(redis: RedisConnection, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      redis.off('ready', onReady)
      reject(new Error(`Expected Redis to answer within ${timeoutMs} ms, got none: is REDIS_URL right?`))
    }, timeoutMs)
    const onReady = (): void => {
      clearTimeout(timer)
      resolve()
    }
    redis.once('ready', onReady)
  })
}
