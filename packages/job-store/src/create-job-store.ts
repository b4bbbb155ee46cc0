/**
 * The job store on a Redis: reads of the record, and the transitions of `transitions.ts` by name. What its methods promise is written in
 * `job-store.ts`. Runs in the api and in the worker's main process.
 */
import { randomUUID } from 'node:crypto'
import { createKeys, jobErrorTable } from '@easel/contract'
import type { EndStatus, JobInput, JobStatus, Keys } from '@easel/contract'
import { execPipeline } from './exec-pipeline.ts'
import { fromHash, jobWorkFields, toHash, toJobWork } from './job-record.ts'
import type { JobEnd, JobRecord, JobWork, NewJobRecord } from './job-record.ts'
import type {
  CancelResult,
  CreateOptions,
  CreateResult,
  DueJob,
  EndResult,
  IdempotencyKeys,
  JobPreview,
  JobStore,
  JobStoreOptions,
  KeyedJob,
  ListOptions,
  OnEnd,
  StartResult,
} from './job-store.ts'
import type { RedisConnection } from './redis.ts'
import { toEvent } from './streamed-event.ts'
import type { StreamedJobEvent } from './streamed-event.ts'
import { toPairs } from './to-pairs.ts'
import { truncatePrompts } from './truncate-prompts.ts'
import { defineTransitions } from './transitions.ts'
import type { Transitions } from './transitions.ts'

/** How many jobs change their owner in one round trip. */
const adoptedAtOnce = 200

export function createJobStore(options: JobStoreOptions): JobStore {
  return new RedisJobStore(options)
}

class RedisJobStore implements JobStore {
  readonly keys: Keys
  readonly #redis: RedisConnection
  readonly #prefix: string
  readonly #now: () => number
  readonly #onEnd: OnEnd
  readonly #scripts: Transitions

  constructor({ redis, prefix, now = Date.now, onEnd = () => {} }: JobStoreOptions) {
    this.keys = createKeys(prefix)
    this.#redis = redis
    this.#prefix = prefix
    this.#now = now
    this.#onEnd = onEnd
    this.#scripts = defineTransitions(redis)
  }

  async create(record: NewJobRecord, options: CreateOptions = {}): Promise<CreateResult> {
    const { idempotency, maxQueued = 0, maxQueuedOfOwner = 0, maxQueuedMsOfOwner = 0 } = options
    const value = idempotency === undefined ? '' : JSON.stringify([record.id, idempotency.fingerprint, idempotency.askedFingerprint])
    const limits = [maxQueued, maxQueuedOfOwner, maxQueuedMsOfOwner, record.costMs ?? 0]
    const reply = await this.#run(
      'easelCreate',
      record.id,
      JSON.stringify(idempotency === undefined ? [] : this.#namesOf(idempotency)),
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
  }

  async findKeyed(idempotency: IdempotencyKeys): Promise<KeyedJob | undefined> {
    const json = (await this.#redis.mget(this.#namesOf(idempotency))).find((value) => value !== null)
    return json === undefined || json === null ? undefined : toKeyedJob(json)
  }

  async get(id: string): Promise<JobRecord | undefined> {
    return fromHash(await this.#redis.hgetall(this.keys.job(id)))
  }

  async getMany(ids: readonly string[]): Promise<JobRecord[]> {
    if (ids.length === 0) return []
    const pipeline = this.#redis.pipeline()
    for (const id of ids) pipeline.hgetall(this.keys.job(id))
    const hashes = await execPipeline<Record<string, string>>(pipeline)
    return hashes.flatMap((hash) => fromHash(hash) ?? [])
  }

  async getWorks(ids: readonly string[]): Promise<JobWork[]> {
    if (ids.length === 0) return []
    const works = (await this.#readFields(ids, ...jobWorkFields)).map(toJobWork)
    // It was written by an earlier Easel, or no longer exists.
    const others = new Map((await this.getMany(ids.filter((_, i) => works[i] === undefined))).map((record) => [record.id, record]))
    return ids.flatMap((id, i) => works[i] ?? others.get(id) ?? [])
  }

  async getWebhook(id: string): Promise<{ owner: string; url: string } | undefined> {
    const [owner, url] = await this.#redis.hmget(this.keys.job(id), 'owner', 'webhook')
    return owner == null || url == null ? undefined : { owner, url }
  }

  async start(id: string, workerId: string): Promise<StartResult> {
    const [result, hash] = (await this.#run('easelStart', id, workerId, toExpiredError())) as [StartResult['result'], string[]]
    const record = fromHash(Object.fromEntries(toPairs(hash)))
    if (result === 'expired') await this.#truncateInput(id)
    if (result === 'missing' || record === undefined) return { result: 'missing' }
    if (result === 'canceled') this.#onEnd('canceled')
    if (result === 'expired') this.#onEnd('failed', 'expired')
    return { result, record }
  }

  async progress(id: string, step: number, total: number): Promise<void> {
    await this.#run('easelProgress', id, step, total)
  }

  async preview(id: string, { step, image, dataUrl }: JobPreview): Promise<void> {
    await this.#run('easelPreview', id, step, image, dataUrl)
  }

  async end(id: string, { status, output, error, timings, provenance, gpuMs, bytes }: JobEnd): Promise<EndResult> {
    const gpu_ms = gpuMs === undefined ? undefined : Math.round(gpuMs)
    const fields = Object.entries({ output, error, timings, provenance, gpu_ms, bytes, pictures: output?.images.length }).flatMap(
      ([name, value]) => (value === undefined ? [] : [name, JSON.stringify(value)]),
    )
    const [result, ended] = (await this.#run('easelEnd', id, status, ...fields)) as ['claimed' | 'ended' | 'missing', EndStatus]
    if (result === 'missing') return { result }
    if (result === 'claimed') this.#onEnd(ended, ended === 'failed' ? error?.code : undefined)
    return { result, status: ended }
  }

  async requestCancel(id: string): Promise<CancelResult> {
    const result = (await this.#run('easelRequestCancel', id)) as CancelResult
    if (result !== 'canceled') return result
    await this.#truncateInput(id)
    this.#onEnd('canceled')
    return result
  }

  async isCancelRequested(id: string): Promise<boolean> {
    return (await this.#redis.hexists(this.keys.job(id), 'cancel_requested_at')) === 1
  }

  async addStrike(id: string): Promise<number> {
    return (await this.#run('easelAddStrike', id)) as number
  }

  async saveCheckpoint(id: string, bytes: Buffer, ttlSeconds: number): Promise<void> {
    await this.#redis.set(this.keys.checkpoint(id), bytes, 'EX', ttlSeconds)
  }

  async loadCheckpoint(id: string): Promise<Buffer | undefined> {
    return (await this.#redis.getBuffer(this.keys.checkpoint(id))) ?? undefined
  }

  async list(owner: string, { status, before, limit }: ListOptions): Promise<JobRecord[]> {
    const from = before === undefined ? '+' : `(${before}`
    const ids = await this.#redis.zrange(this.keys.index(owner, status), from, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit)
    return await this.getMany(ids)
  }

  async count(owner: string, status: JobStatus): Promise<number> {
    return await this.#redis.zcard(this.keys.index(owner, status))
  }

  async adopt(from: string, to: string): Promise<number> {
    let adopted = 0
    for (;;) {
      const ids = await this.#redis.zrange(this.keys.index(from), 0, String(adoptedAtOnce - 1))
      const results = await Promise.all(ids.map((id) => this.#run('easelAdopt', id, from, to)))
      adopted += results.filter((result) => result === 1).length
      if (ids.length < adoptedAtOnce) return adopted
    }
  }

  async listEndedBefore(instantMs: number, limit: number): Promise<string[]> {
    return await this.#redis.zrange(this.keys.ended, '-inf', `(${instantMs}`, 'BYSCORE', 'LIMIT', 0, limit)
  }

  async listCreatedBefore(status: JobStatus, instantMs: number, { after, limit }: { after?: string; limit: number }): Promise<string[]> {
    // A job id begins with the instant of its creation, so ids sort in order of creation.
    const hex = Math.max(0, instantMs).toString(16).padStart(12, '0')
    const until = `(${hex.slice(0, 8)}-${hex.slice(8)}`
    const from = after === undefined ? '-' : `(${after}`
    return await this.#redis.zrange(this.keys.index('', status), from, until, 'BYLEX', 'LIMIT', 0, limit)
  }

  async findOverdue(ids: readonly string[]): Promise<string[]> {
    const fields = await this.#readFields(ids, 'expires_at')
    const instant = this.#now()
    return ids.filter((_, i) => fields[i]?.[0] != null && Number(fields[i][0]) < instant)
  }

  async findDueToEnd(ids: readonly string[]): Promise<DueJob[]> {
    const fields = await this.#readFields(ids, 'worker', 'cancel_requested_at', 'started_at', 'timeout_seconds')
    const instant = this.#now()
    return ids.flatMap((id, i) => {
      const [worker, canceledAt, startedAt, timeoutSeconds] = fields[i] ?? []
      const isTimedOut = timeoutSeconds != null && Number(startedAt) + Number(timeoutSeconds) * 1000 <= instant
      if (canceledAt == null && !isTimedOut) return []
      return { id, worker: worker ?? '', reason: canceledAt == null ? 'timeout' : 'canceled' } as const
    })
  }

  async expire(id: string, why?: string): Promise<boolean> {
    const isExpired = (await this.#run('easelExpire', id, toExpiredError(why))) === 1
    if (!isExpired) return false
    await this.#truncateInput(id)
    this.#onEnd('failed', 'expired')
    return true
  }

  async findUnlisted(ids: readonly string[]): Promise<string[]> {
    const fields = await this.#readFields(ids, 'cost_ms')
    return ids.filter((_, i) => fields[i]?.[0] == null)
  }

  async enlist(id: string, { costMs, weight }: { costMs: number; weight: number }): Promise<void> {
    await this.#run('easelEnlist', id, Math.max(1, Math.round(costMs)), weight)
  }

  async delete(id: string, { keepAttempts = false }: { keepAttempts?: boolean } = {}): Promise<void> {
    await this.#run('easelDelete', id, keepAttempts ? 'keep' : '')
  }

  async readEvents(id: string, after: string): Promise<StreamedJobEvent[]> {
    const entries = await this.#redis.xrange(this.keys.events(id), after === '0' ? '-' : `(${after}`, '+')
    return entries.map(([entryId, fields]) => toEvent(entryId, fields))
  }

  async increment(counter: string, by = 1): Promise<void> {
    await this.#redis.hincrby(this.keys.counters, counter, by)
  }

  async counters(): Promise<Record<string, number>> {
    const counters = await this.#redis.hgetall(this.keys.counters)
    return Object.fromEntries(Object.entries(counters).map(([name, value]) => [name, Number(value)]))
  }

  async #run(name: keyof Transitions, id: string, ...rest: (string | number)[]): Promise<unknown> {
    return await this.#scripts[name](this.keys.job(id), this.#prefix, id, this.#now(), randomUUID(), ...rest)
  }

  /** Some fields of each record, in one round trip. */
  async #readFields(ids: readonly string[], ...names: string[]): Promise<(string | null)[][]> {
    const pipeline = this.#redis.pipeline()
    for (const id of ids) pipeline.hmget(this.keys.job(id), ...names)
    return await execPipeline(pipeline)
  }

  /** A job that never ran cannot be replayed, so it need not keep its whole prompts. */
  async #truncateInput(id: string): Promise<void> {
    const input = await this.#redis.hget(this.keys.job(id), 'input')
    const short = input === null ? undefined : truncatePrompts(JSON.parse(input) as JobInput)
    if (short !== undefined) await this.#run('easelTruncateInput', id, JSON.stringify(short))
  }

  /** The Redis keys under which the request may be recorded; the one in use now comes first. */
  #namesOf({ key, formerKeys = [] }: IdempotencyKeys): string[] {
    return [key, ...formerKeys].map((name) => this.keys.idempotency(name))
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
