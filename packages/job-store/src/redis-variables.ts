/**
 * Owns the environment variables that say where Redis is: their names, meaning, ranges and defaults. The api and the worker include them in
 * their own schemas, so both reach the same server; the reference documentation is generated from the descriptions.
 *
 * Invariant: does not read the environment itself. A variable set to an empty text must have been dropped before.
 */
import { accessSync, constants } from 'node:fs'
import { z } from 'zod'
import { defaultQueuePrefix } from '@easel/contract'
import { type RedisLocation, splitList } from './redis.ts'

const hostAndPort = /^(\[[0-9a-f:]+\]|[^\s:/@,]+):[0-9]{1,5}$/i

export const redisVariables = {
  REDIS_URL: z
    .string()
    .refine((text) => splitList(text).length > 0 && splitList(text).every(isRedisUrl), 'Expected a redis:// or rediss:// URL')
    .default('redis://localhost:6379')
    .describe(
      'Redis that holds queue and records, `redis[s]://user:password@host:port/db`; api and workers must see the same one. Several, separated by commas: nodes of one Redis Cluster.',
    ),
  REDIS_CLUSTER: z
    .stringbool()
    .default(false)
    .describe('Whether REDIS_URL is a node of a Redis Cluster; needed only when it is a single URL.'),
  REDIS_SENTINELS: z
    .string()
    .refine((text) => splitList(text).every((part) => hostAndPort.test(part)), 'Expected host:port, separated by commas')
    .optional()
    .describe(
      'Sentinels that know which Redis is the master, `host:port` separated by commas. User, password, database number and TLS are still taken from REDIS_URL; its host and port are not used.',
    ),
  REDIS_SENTINEL_MASTER: z.string().min(1).default('mymaster').describe('Name by which the REDIS_SENTINELS know the master.'),
  REDIS_SENTINEL_PASSWORD: z.string().optional().describe('Password of the Sentinels themselves. Unset: none.'),
  REDIS_TLS_CA: z
    .string()
    .min(1)
    .optional()
    .describe(
      "File with the certificates (PEM) of the authorities that may sign a rediss:// server's certificate. Unset: those that Node.js trusts.",
    ),
  ALLOW_EVICTING_REDIS: z
    .stringbool()
    .default(false)
    .describe('Accept a Redis whose maxmemory-policy evicts keys. When its memory is full, accepted jobs are lost silently.'),
  QUEUE_PREFIX: z
    .string()
    .min(1)
    .default(defaultQueuePrefix)
    .describe(
      'First part of every key in Redis; a Redis Cluster needs a hash tag in it, as in `{easel}`. Must be the same for api and workers.',
    ),
}

const redisSchema = z.object(redisVariables)
type RedisVariables = z.output<typeof redisSchema>

/**
 * Reports conflicts between variables, under their names: `schema.superRefine(checkRedisVariables, { when: () => true })`. With that `when` it
 * runs even if other variables have problems, so that all are reported at once; it is silent while a variable of Redis itself is invalid.
 */
export function checkRedisVariables(values: RedisVariables, context: z.RefinementCtx): void {
  if (context.issues.some((issue) => String(issue.path?.[0]) in redisVariables)) return
  for (const [name, message] of findProblems(values)) context.addIssue({ code: 'custom', path: [name], message })
}

/** Where `createRedis` connects to, from variables that passed `checkRedisVariables`. */
export function toRedisLocation(values: RedisVariables): RedisLocation {
  const { REDIS_SENTINELS: sentinels, REDIS_SENTINEL_PASSWORD: password, REDIS_TLS_CA: tlsCaFile } = values
  return {
    url: values.REDIS_URL,
    cluster: isCluster(values),
    sentinel: sentinels === undefined ? undefined : { addresses: splitList(sentinels), master: values.REDIS_SENTINEL_MASTER, password },
    tlsCaFile,
  }
}

function isRedisUrl(text: string): boolean {
  return URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol) && new URL(text).hostname !== ''
}

function isCluster(values: RedisVariables): boolean {
  return values.REDIS_CLUSTER || splitList(values.REDIS_URL).length > 1
}

function findProblems(values: RedisVariables): [name: keyof RedisVariables, message: string][] {
  const problems: [keyof RedisVariables, string][] = []
  const urls = splitList(values.REDIS_URL).map((text) => new URL(text))
  if (isCluster(values)) {
    if (values.REDIS_SENTINELS !== undefined) {
      problems.push(['REDIS_SENTINELS', 'Expected nothing because a Redis Cluster fails over by itself, got Sentinels'])
    }
    // The server's own rule: the text between the first `{` and the next `}`, unless it is empty.
    if (!/^[^{]*\{[^}]+\}/.test(values.QUEUE_PREFIX)) {
      const got = values.QUEUE_PREFIX
      problems.push(['QUEUE_PREFIX', `Expected a hash tag such as {easel} because Redis is a cluster, got ${got}`])
    }
    if (urls.some((url) => !['', '/', '/0'].includes(url.pathname))) {
      problems.push(['REDIS_URL', 'Expected database 0, the only one of a Redis Cluster, got another'])
    }
    if (new Set(urls.map(({ protocol, username, password }) => JSON.stringify([protocol, username, password]))).size > 1) {
      problems.push(['REDIS_URL', 'Expected the same scheme, user and password in every URL, got different ones'])
    }
  }
  if (values.REDIS_TLS_CA !== undefined) {
    if (urls[0]?.protocol !== 'rediss:') {
      problems.push(['REDIS_TLS_CA', 'Expected a rediss:// URL in REDIS_URL, which alone uses it, got redis://'])
    }
    try {
      accessSync(values.REDIS_TLS_CA, constants.R_OK)
    } catch (error) {
      problems.push(['REDIS_TLS_CA', `Expected a file that can be read, got ${(error as Error).message}`])
    }
  }
  return problems
}
