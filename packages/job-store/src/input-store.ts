/**
 * In Redis: which jobs and uploads hold which input picture, and the uploads themselves. A picture is stored once per hash, however many
 * holders it has, and is removed when it has none.
 *
 * Invariant: a holder is written before the picture, and none is added while the picture is being removed, so a picture that has a
 * holder is stored. A holder that may never come into being (a job whose request was interrupted) or that expires (an upload) has an instant
 * at which it is checked again. The usage of an owner counts a picture once, however many holders of it the owner has. Runs in the api. Knows
 * nothing about object storage.
 */
import { randomUUID } from 'node:crypto'
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

/** A holder to check: does the job exist, has the upload expired? `leaving`: the picture itself, which has no holders. */
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
  /** Removes a holder. True when it was the last and no one else is removing the picture: the caller deletes it and then calls `forget`. */
  release(sha256: string, holder: DueHold['holder']): Promise<boolean>
  /** Call when the picture has been deleted from the store. */
  forget(sha256: string): Promise<void>
  /** The holder stays until it is released; it is not checked again. */
  settle(sha256: string, holder: InputHolder): Promise<void>
  /** Sets the instant (ms) of the holder's next check, if it is still a holder. */
  checkAt(sha256: string, holder: InputHolder, instantMs: number): Promise<void>
  listDue(instantMs: number, limit: number): Promise<DueHold[]>
  /** `ticket`: the one with which the bytes were sent. False, and nothing is kept, if it was used for another upload before. */
  putUpload(upload: UploadRecord, ticket?: string): Promise<boolean>
  getUpload(id: string): Promise<UploadRecord | undefined>
  deleteUpload(id: string): Promise<void>
  /** Lets whoever knows the ticket send the bytes of an upload for its owner, until an upload has been kept with it. */
  putTicket(ticket: string, upload: Pick<UploadRecord, 'id' | 'owner'>, ttlSeconds: number): Promise<void>
  /** What a ticket is for, if it can still be used. It then stays valid for this many seconds from now. */
  renewTicket(ticket: string, ttlSeconds: number): Promise<Pick<UploadRecord, 'id' | 'owner'> | undefined>
}

// KEYS: the picture's holders, all holders by the instant of their next check. ARGV: prefix, hash, holder, the instant of its next check in ms,
// and what each script adds. The mark of a removal expires by Redis' own clock, which is the same for all processes.
const preamble = `
local prefix, sha256, holder, dueAt = unpack(ARGV)
local owners = ${toLua(names.inputOwners(variable('sha256')))}
local removal = ${toLua(names.inputRemoval(variable('sha256')))}
-- Earlier versions kept this mark.
redis.call('ZREM', KEYS[1], 'leaving')
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
  // ARGV[5] owner, [6] bytes
  easelHoldInput: `${preamble}
local owner, bytes = ARGV[5], ARGV[6]
if redis.call('EXISTS', removal) == 1 then return 0 end
redis.call('ZREM', KEYS[2], 'leaving ' .. sha256)
redis.call('ZADD', KEYS[2], dueAt, holder .. ' ' .. sha256)
if redis.call('ZADD', KEYS[1], 0, holder) == 1 then
  redis.call('HSET', owners, 'bytes', bytes, 'of:' .. holder, owner)
  count(owner, 1)
end
return 1`,
  // ARGV[4] is the instant at which the removal is checked, [5] how long it may take, in ms
  easelReleaseInput: `${preamble}
redis.call('ZREM', KEYS[1], holder)
redis.call('ZREM', KEYS[2], holder .. ' ' .. sha256)
local of = redis.call('HGET', owners, 'of:' .. holder)
if of then
  redis.call('HDEL', owners, 'of:' .. holder)
  count(of, -1)
end
if redis.call('ZCARD', KEYS[1]) > 0 then return 0 end
redis.call('DEL', owners)
redis.call('ZADD', KEYS[2], dueAt, 'leaving ' .. sha256)
-- Only the first of several callers deletes it: a later one could delete a picture that has been stored again meanwhile.
return redis.call('SET', removal, 1, 'NX', 'PX', ARGV[5]) and 1 or 0`,
  // KEYS: the upload, the ticket. ARGV: the upload as JSON, the id of this call, which is the same when it is sent again. A used ticket is the id
  // of the call that used it.
  easelKeepUpload: `
local ticket = redis.call('GET', KEYS[2])
if ticket == ARGV[2] then return 1 end
if not ticket or string.sub(ticket, 1, 1) ~= '{' then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'KEEPTTL')
return 1`,
} as const

type InputScripts = Record<keyof typeof scripts, (...args: (string | number)[]) => Promise<unknown>>

export interface InputStoreOptions {
  redis: RedisConnection
  /** The first part of every key. */
  prefix: string
  /**
   * How long the store may take to delete a picture, in ms. A process that takes longer is assumed to be dead: the picture can be held again,
   * or else the sweep removes it. Default 60 000.
   */
  removalMs?: number
  /** Clock, ms since the epoch. Default: Date.now. */
  now?: () => number
}

export function createInputStore({ redis, prefix, removalMs = 60_000, now = Date.now }: InputStoreOptions): InputStore {
  const keys = createKeys(prefix)
  for (const [name, lua] of Object.entries(scripts)) redis.defineCommand(name, { numberOfKeys: 2, lua })
  const run = redis as unknown as InputScripts
  return {
    async hold({ sha256, bytes }, holder, { owner, dueAt }) {
      const names = [keys.input(sha256), keys.inputHolds]
      return (await run.easelHoldInput(...names, prefix, sha256, holder, dueAt, owner, bytes)) === 1
    },
    async release(sha256, holder) {
      const names = [keys.input(sha256), keys.inputHolds]
      return (await run.easelReleaseInput(...names, prefix, sha256, holder, now() + removalMs, removalMs)) === 1
    },
    async forget(sha256) {
      await redis.multi().del(keys.inputRemoval(sha256)).zrem(keys.inputHolds, `leaving ${sha256}`).exec()
    },
    async settle(sha256, holder) {
      await redis.zrem(keys.inputHolds, `${holder} ${sha256}`)
    },
    async checkAt(sha256, holder, instantMs) {
      await redis.zadd(keys.inputHolds, 'XX', instantMs, `${holder} ${sha256}`)
    },
    async listDue(instantMs, limit) {
      const members = await redis.zrange(keys.inputHolds, '-inf', String(instantMs), 'BYSCORE', 'LIMIT', 0, limit)
      return members.map((member) => {
        const [holder = '', sha256 = ''] = member.split(' ')
        return { sha256, holder: holder as DueHold['holder'] }
      })
    },
    async putUpload(upload, ticket) {
      const [name, json] = [keys.upload(upload.id), JSON.stringify(upload)]
      if (ticket !== undefined) return (await run.easelKeepUpload(name, keys.uploadTicket(ticket), json, randomUUID())) === 1
      await redis.set(name, json)
      return true
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
    async renewTicket(ticket, ttlSeconds) {
      const json = await redis.getex(keys.uploadTicket(ticket), 'EX', ttlSeconds)
      return json?.startsWith('{') ? (JSON.parse(json) as Pick<UploadRecord, 'id' | 'owner'>) : undefined
    },
  }
}
