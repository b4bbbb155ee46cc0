/**
 * The job store on a Redis: reads of the record, and the transitions of `transitions.ts` by name. Runs in the api and in the worker's main
 * process.
 */
import { randomUUID } from 'node:crypto'
import { createKeys, jobErrorTable } from '@easel/contract'
import type { EndStatus, JobInput } from '@easel/contract'
import { fromHash, jobWorkFields, toHash, toJobWork } from './job-record.ts'
import type { CancelResult, CreateResult, IdempotencyKeys, JobStore, JobStoreOptions, KeyedJob, StartResult } from './job-store.ts'
import { toEvent } from './streamed-event.ts'
import { toPairs } from './to-pairs.ts'
import { truncatePrompts } from './truncate-prompts.ts'
import { defineTransitions } from './transitions.ts'

/** How many jobs change their owner in one round trip. */
const adoptedAtOnce = 200

// oxlint-disable-next-line max-lines-per-function -- a list of short methods over what they share.
export function createJobStore({ redis, prefix, now = Date.now }: JobStoreOptions): JobStore {
  const keys = createKeys(prefix)
  const scripts = defineTransitions(redis)
  const run = (name: keyof typeof scripts, id: string, ...rest: (string | number)[]): Promise<unknown> =>
    scripts[name](keys.job(id), prefix, id, now(), randomUUID(), ...rest)
  /** Some fields of each record, in one round trip. */
  const readFields = async (ids: readonly string[], ...names: string[]): Promise<(string | null)[][]> => {
    const pipeline = redis.pipeline()
    for (const id of ids) pipeline.hmget(keys.job(id), ...names)
    return ((await pipeline.exec()) ?? []).map(([error, reply]) => {
      if (error !== null) throw error
      return reply as (string | null)[]
    })
  }
  /** A job that never ran does not need its prompts for being repeated. */
  const truncateInput = async (id: string): Promise<void> => {
    const input = await redis.hget(keys.job(id), 'input')
    const short = input === null ? undefined : truncatePrompts(JSON.parse(input) as JobInput)
    if (short !== undefined) await run('easelTruncateInput', id, JSON.stringify(short))
  }
  /** Where a request may have been kept: first where it is kept now. */
  const namesOf = ({ key, formerKeys = [] }: IdempotencyKeys): string[] => [key, ...formerKeys].map((name) => keys.idempotency(name))

  return {
    keys,

    async create(record, { idempotency, maxQueued = 0, maxQueuedOfOwner = 0, maxQueuedMsOfOwner = 0 } = {}) {
      const value = idempotency === undefined ? '' : JSON.stringify([record.id, idempotency.fingerprint, idempotency.askedFingerprint])
      const limits = [maxQueued, maxQueuedOfOwner, maxQueuedMsOfOwner, record.costMs ?? 0]
      const reply = await run(
        'easelCreate',
        record.id,
        JSON.stringify(idempotency === undefined ? [] : namesOf(idempotency)),
        value,
        idempotency?.ttlSeconds ?? 0,
        ...limits,
        record.owner,
        ...toHash(record),
      )
      const [result, detail] = reply as [CreateResult['result'], string]
      if (result === 'created') return { result }
      if (result === 'owner_work_full') return { result, queuedMs: Number(detail) }
      if (result !== 'exists') return { result, queued: Number(detail) }
      return { result, ...toKeyedJob(detail) }
    },

    async findKeyed(idempotency) {
      const json = (await redis.mget(namesOf(idempotency))).find((value) => value !== null)
      return json === undefined || json === null ? undefined : toKeyedJob(json)
    },

    async get(id) {
      return fromHash(await redis.hgetall(keys.job(id)))
    },

    async getWorks(ids) {
      if (ids.length === 0) return []
      const works = (await readFields(ids, ...jobWorkFields)).map(toJobWork)
      // It was written by an earlier Easel, or no longer exists.
      const others = new Map((await this.getMany(ids.filter((_, i) => works[i] === undefined))).map((record) => [record.id, record]))
      return ids.flatMap((id, i) => works[i] ?? others.get(id) ?? [])
    },

    async getWebhook(id) {
      const [owner, url] = await redis.hmget(keys.job(id), 'owner', 'webhook')
      return owner == null || url == null ? undefined : { owner, url }
    },

    async getMany(ids) {
      if (ids.length === 0) return []
      const pipeline = redis.pipeline()
      for (const id of ids) pipeline.hgetall(keys.job(id))
      const replies = await pipeline.exec()
      return (replies ?? []).flatMap(([error, hash]) => {
        if (error !== null) throw error
        return fromHash(hash as Record<string, string>) ?? []
      })
    },

    async start(id, workerId) {
      const [result, hash] = (await run('easelStart', id, workerId, toExpiredError())) as [StartResult['result'], string[]]
      const record = fromHash(Object.fromEntries(toPairs(hash)))
      if (result === 'expired') await truncateInput(id)
      return result === 'missing' || record === undefined ? { result: 'missing' } : { result, record }
    },

    async progress(id, step, total) {
      await run('easelProgress', id, step, total)
    },

    async preview(id, { step, image, dataUrl }) {
      await run('easelPreview', id, step, image, dataUrl)
    },

    async end(id, { status, output, error, timings, provenance, gpuMs, bytes }) {
      const gpu_ms = gpuMs === undefined ? undefined : Math.round(gpuMs)
      const fields = Object.entries({ output, error, timings, provenance, gpu_ms, bytes, pictures: output?.images.length }).flatMap(
        ([name, value]) => (value === undefined ? [] : [name, JSON.stringify(value)]),
      )
      const [result, detail] = (await run('easelEnd', id, status, ...fields)) as ['claimed' | 'ended' | 'missing', EndStatus]
      return result === 'missing' ? { result } : { result, status: detail }
    },

    async requestCancel(id) {
      const result = (await run('easelRequestCancel', id)) as CancelResult
      if (result === 'canceled') await truncateInput(id)
      return result
    },

    async isCancelRequested(id) {
      return (await redis.hexists(keys.job(id), 'cancel_requested_at')) === 1
    },

    async addStrike(id) {
      return (await run('easelAddStrike', id)) as number
    },

    async saveCheckpoint(id, bytes, ttlSeconds) {
      await redis.set(keys.checkpoint(id), bytes, 'EX', ttlSeconds)
    },

    async loadCheckpoint(id) {
      return (await redis.getBuffer(keys.checkpoint(id))) ?? undefined
    },

    async list(owner, { status, before, limit }) {
      const from = before === undefined ? '+' : `(${before}`
      const ids = await redis.zrange(keys.index(owner, status), from, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
      return await this.getMany(ids)
    },

    async count(owner, status) {
      return await redis.zcard(keys.index(owner, status))
    },

    async adopt(from, to) {
      let adopted = 0
      for (;;) {
        const ids = await redis.zrange(keys.index(from), 0, String(adoptedAtOnce - 1))
        const results = await Promise.all(ids.map((id) => run('easelAdopt', id, from, to)))
        adopted += results.filter((result) => result === 1).length
        if (ids.length < adoptedAtOnce) return adopted
      }
    },

    async listEndedBefore(instantMs, limit) {
      return await redis.zrange(keys.ended, '-inf', `(${instantMs}`, 'BYSCORE', 'LIMIT', 0, limit)
    },

    async listCreatedBefore(status, instantMs, { after, limit }) {
      // A job id begins with the instant of its creation, so ids sort in order of creation.
      const hex = Math.max(0, instantMs).toString(16).padStart(12, '0')
      const until = `(${hex.slice(0, 8)}-${hex.slice(8)}`
      return await redis.zrange(keys.index('', status), after === undefined ? '-' : `(${after}`, until, 'BYLEX', 'LIMIT', 0, limit)
    },

    async findOverdue(ids) {
      const fields = await readFields(ids, 'expires_at')
      const instant = now()
      return ids.filter((_, i) => fields[i]?.[0] != null && Number(fields[i][0]) < instant)
    },

    async findDueToEnd(ids) {
      const fields = await readFields(ids, 'worker', 'cancel_requested_at', 'started_at', 'timeout_seconds')
      const instant = now()
      return ids.flatMap((id, i) => {
        const [worker, canceledAt, startedAt, timeoutSeconds] = fields[i] ?? []
        const isTimedOut = timeoutSeconds != null && Number(startedAt) + Number(timeoutSeconds) * 1000 <= instant
        if (canceledAt == null && !isTimedOut) return []
        return { id, worker: worker ?? '', reason: canceledAt == null ? 'timeout' : 'canceled' } as const
      })
    },

    async expire(id, why) {
      const isExpired = (await run('easelExpire', id, toExpiredError(why))) === 1
      if (isExpired) await truncateInput(id)
      return isExpired
    },

    async findUnlisted(ids) {
      const fields = await readFields(ids, 'cost_ms')
      return ids.filter((_, i) => fields[i]?.[0] == null)
    },

    async enlist(id, { costMs, weight }) {
      await run('easelEnlist', id, Math.max(1, Math.round(costMs)), weight)
    },

    async delete(id, { keepAttempts = false } = {}) {
      await run('easelDelete', id, keepAttempts ? 'keep' : '')
    },

    async readEvents(id, after) {
      const entries = await redis.xrange(keys.events(id), after === '0' ? '-' : `(${after}`, '+')
      return entries.map(([entryId, fields]) => toEvent(entryId, fields))
    },

    async increment(counter, by = 1) {
      await redis.hincrby(keys.counters, counter, by)
    },

    async counters() {
      return Object.fromEntries(Object.entries(await redis.hgetall(keys.counters)).map(([name, value]) => [name, Number(value)]))
    },
  }
}

function toKeyedJob(json: string): KeyedJob {
  const [jobId, fingerprint, asked] = JSON.parse(json) as [string, string, string | null | undefined]
  return { jobId, fingerprint, askedFingerprint: asked ?? undefined }
}

function toExpiredError(why?: string): string {
  const { message, retryable } = jobErrorTable.expired
  return JSON.stringify({ code: 'expired', retryable, message: why === undefined ? message : `${message} ${why}` })
}
