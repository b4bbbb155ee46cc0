/** Examines Redis as the services would use it: whether it answers, accepts writes, evicts nothing, and keeps its data over a restart. */
import { Cluster } from 'ioredis'
import { z } from 'zod'
import { checkRedisVariables, createRedis, findRedisFault, redisVariables, toRedisLocation, waitUntilReady } from '@easel/job-store'
import { readVariables } from '@easel/process'
import { findDocker, findRedisServer } from '@easel/redis-server'
import { type Finding, toFailure } from './finding.ts'

const subject = 'redis'
const patienceMs = 3000
const schema = z.object(redisVariables).superRefine(checkRedisVariables, { when: () => true })

export async function examineRedis(env: NodeJS.ProcessEnv): Promise<Finding[]> {
  if ((env['REDIS_URL'] ?? '').trim() === '') return [examineEmbedded()]
  try {
    const variables = readVariables(schema, env)
    const redis = createRedis({ ...toRedisLocation(variables), use: 'worker', onError: () => {} })
    try {
      await waitUntilReady(redis, patienceMs)
      const fault = await findRedisFault(redis, { allowEvicting: variables.ALLOW_EVICTING_REDIS })
      if (fault !== undefined) return [{ subject, state: 'bad', says: fault }]
      const info = await (redis instanceof Cluster ? redis.nodes('master')[0] : redis)?.info()
      return [{ subject, state: 'ok', says: `${readInfo(info, 'redis_version')} answers and evicts nothing` }, examinePersistence(info)]
    } finally {
      redis.disconnect()
    }
  } catch (error) {
    return [toFailure(subject, error)]
  }
}

function examineEmbedded(): Finding {
  const server = findRedisServer()
  if (server !== undefined) return { subject, state: 'ok', says: `none in REDIS_URL; "easel start" runs ${server}` }
  if (findDocker() !== undefined) return { subject, state: 'ok', says: 'none in REDIS_URL; "easel start" runs one with Docker' }
  const mend = 'install valkey-server or redis-server ("easel start" tries to), start Docker, or set REDIS_URL'
  return { subject, state: 'warn', says: 'none in REDIS_URL, and no server on this machine', mend }
}

function examinePersistence(info: string | undefined): Finding {
  if (readInfo(info, 'aof_enabled') === '1')
    return { subject, state: 'ok', says: 'jobs survive a restart of it: it appends every change to a file' }
  const mend = 'turn on its append-only file: CONFIG SET appendonly yes, and the same in its configuration'
  return { subject, state: 'warn', says: 'jobs are lost when it ends: it keeps them in memory or saves them only now and then', mend }
}

function readInfo(info: string | undefined, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info ?? '')?.[1]
}
