/**
 * Who needs which input picture, and the uploads, in Redis. A picture is stored once per hash however many jobs and uploads hold it, and is
 * removed when nobody holds it any more.
 *
 * Invariant: a holder is written before the picture, and nobody becomes a holder while the picture is being removed, so a picture that has a
 * holder is stored. A holder that may never come into being (a job whose request was interrupted) or that expires (an upload) has an instant
 * at which it is checked again. The usage of an owner counts a picture once, however many holders of it the owner has. Runs in the api. Knows
 * nothing about object storage.
 */
import { createKeys } from '@easel/contract'
import type { InputPicture } from '@easel/contract'
import { names, toLua, variable } from './lua-names.ts'
import type { RedisConnection } from './redis.ts'

/** A picture that an owner has uploaded for later jobs. */
export interface UploadRecord extends InputPicture {
  id: string
  owner: string
  /** The instant (ms) at which it expires; absent when it is kept for ever. */
  expiresAt?: number
}

export type InputHolder = `job:${string}` | `upload:${string}`

/** A holder to check: does the job exist, has the upload expired? `leaving`: the picture itself, which nobody holds. */
export interface DueHold {
  sha256: string
  holder: InputHolder | 'leaving'
}

export interface HoldOptions {
  /** The owner of the job or the upload. */
  owner: string
  /** The instant (ms) at which the holder is checked again. */
  dueAt: number
}

export interface InputStore {
  /** Adds a holder. Returns false while the picture is being removed: try again. */
  hold(picture: Pick<InputPicture, 'sha256' | 'bytes'>, holder: InputHolder, options: HoldOptions): Promise<boolean>
  /** Removes a holder. True when it was the last: the caller deletes the picture and then calls `forget`. May be repeated. */
  release(sha256: string, holder: DueHold['holder']): Promise<boolean>
  /** Call when the picture has been deleted from the store. */
  forget(sha256: string): Promise<void>
  /** The holder stays until it is released; it is not checked again. */
  settle(sha256: string, holder: InputHolder): Promise<void>
  listDue(instantMs: number, limit: number): Promise<DueHold[]>
  putUpload(upload: UploadRecord): Promise<void>
  getUpload(id: string): Promise<UploadRecord | undefined>
  deleteUpload(id: string): Promise<void>
  /** Lets whoever knows the ticket send the bytes of an upload for its owner, once. */
  putTicket(ticket: string, upload: Pick<UploadRecord, 'id' | 'owner'>, ttlSeconds: number): Promise<void>
  takeTicket(ticket: string): Promise<Pick<UploadRecord, 'id' | 'owner'> | undefined>
}

/** After this many milliseconds a process that was removing a picture is assumed to be dead. */
const leavingMs = 60_000

// KEYS: the picture's holders, all holders by the instant of their next check. ARGV: prefix, hash, holder, now in ms, instant, owner, bytes.
const preamble = `
local prefix, sha256, holder, now, dueAt, owner, bytes = unpack(ARGV)
local owners = ${toLua(names.inputOwners(variable('sha256')))}
-- The picture counts in the usage of an owner from its first holder to its last.
local function count(owner, sign)
  local holders = redis.call('HINCRBY', owners, 'holders:' .. owner, sign)
  if holders > 0 and (sign < 0 or holders > 1) then return end
  if holders == 0 then redis.call('HDEL', owners, 'holders:' .. owner) end
  local usage = ${toLua(names.usage(variable('owner')))}
  redis.call('HINCRBY', usage, 'inputs', sign)
  redis.call('HINCRBY', usage, 'input_bytes', sign * tonumber(redis.call('HGET', owners, 'bytes')))
end
`

const scripts = {
  easelHoldInput: `${preamble}
local leaving = redis.call('ZSCORE', KEYS[1], 'leaving')
if leaving and tonumber(leaving) + ${leavingMs} > tonumber(now) then return 0 end
redis.call('ZREM', KEYS[1], 'leaving')
redis.call('ZREM', KEYS[2], 'leaving ' .. sha256)
redis.call('ZADD', KEYS[2], dueAt, holder .. ' ' .. sha256)
if redis.call('ZADD', KEYS[1], 0, holder) == 1 then
  redis.call('HSET', owners, 'bytes', bytes, 'of:' .. holder, owner)
  count(owner, 1)
end
return 1`,
  easelReleaseInput: `${preamble}
redis.call('ZREM', KEYS[1], holder)
redis.call('ZREM', KEYS[2], holder .. ' ' .. sha256)
local of = redis.call('HGET', owners, 'of:' .. holder)
if of then
  redis.call('HDEL', owners, 'of:' .. holder)
  count(of, -1)
end
if redis.call('ZCARD', KEYS[1]) > (redis.call('ZSCORE', KEYS[1], 'leaving') and 1 or 0) then return 0 end
redis.call('DEL', owners)
redis.call('ZADD', KEYS[1], now, 'leaving')
redis.call('ZADD', KEYS[2], now + ${leavingMs}, 'leaving ' .. sha256)
return 1`,
} as const

type InputScripts = Record<keyof typeof scripts, (...args: (string | number)[]) => Promise<unknown>>

export interface InputStoreOptions {
  redis: RedisConnection
  /** The first part of every key. */
  prefix: string
  /** Clock, ms since the epoch. Default: Date.now. */
  now?: () => number
}

export function createInputStore({ redis, prefix, now = Date.now }: InputStoreOptions): InputStore {
  const keys = createKeys(prefix)
  for (const [name, lua] of Object.entries(scripts)) redis.defineCommand(name, { numberOfKeys: 2, lua })
  const run = redis as unknown as InputScripts
  return {
    async hold({ sha256, bytes }, holder, { owner, dueAt }) {
      const names = [keys.input(sha256), keys.inputHolds]
      return (await run.easelHoldInput(...names, prefix, sha256, holder, now(), dueAt, owner, bytes)) === 1
    },
    async release(sha256, holder) {
      return (await run.easelReleaseInput(keys.input(sha256), keys.inputHolds, prefix, sha256, holder, now())) === 1
    },
    async forget(sha256) {
      await redis.multi().zrem(keys.input(sha256), 'leaving').zrem(keys.inputHolds, `leaving ${sha256}`).exec()
    },
    async settle(sha256, holder) {
      await redis.zrem(keys.inputHolds, `${holder} ${sha256}`)
    },
    async listDue(instantMs, limit) {
      const members = await redis.zrange(keys.inputHolds, '-inf', String(instantMs), 'BYSCORE', 'LIMIT', 0, limit)
      return members.map((member) => {
        const [holder = '', sha256 = ''] = member.split(' ')
        return { sha256, holder: holder as DueHold['holder'] }
      })
    },
    async putUpload(upload) {
      await redis.set(keys.upload(upload.id), JSON.stringify(upload))
    },
    async getUpload(id) {
      const json = await redis.get(keys.upload(id))
      return json === null ? undefined : (JSON.parse(json) as UploadRecord)
    },
    async deleteUpload(id) {
      await redis.del(keys.upload(id))
    },
    async putTicket(ticket, { id, owner }, ttlSeconds) {
      await redis.set(keys.uploadTicket(ticket), JSON.stringify({ id, owner }), 'EX', ttlSeconds)
    },
    async takeTicket(ticket) {
      const json = await redis.getdel(keys.uploadTicket(ticket))
      return json === null ? undefined : (JSON.parse(json) as Pick<UploadRecord, 'id' | 'owner'>)
    },
  }
}
