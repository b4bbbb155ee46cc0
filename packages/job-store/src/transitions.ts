/**
 * The job state machine, as Lua scripts: each transition reads and writes the record, its indexes and its event stream in one step, so
 * that two processes can never both end a job, and no follower sees an end that the record does not have.
 *
 *   create ─► queued ─ start ─► running ─ end ─► succeeded | failed | canceled
 *               │                 └─ requestCancel: marks it; whatever end comes next is `canceled`
 *               └─ requestCancel ─► canceled, or start after expires_at ─► failed
 *
 * All keys of one Easel share a hash tag, so the scripts may build further key names from the prefix.
 */
import { eventsRetentionSeconds } from '@easel/contract'
import type { RedisConnection } from './redis.ts'

// KEYS[1] is the record; ARGV[1] the prefix, ARGV[2] the job id, ARGV[3] now in ms.
const preamble = `
local record, prefix, id, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function index(owner, status, add)
  for _, o in ipairs({'', owner}) do
    if status then
      if add then redis.call('ZADD', prefix .. ':index:' .. o .. ':' .. status, 0, id)
      else redis.call('ZREM', prefix .. ':index:' .. o .. ':' .. status, id) end
    else redis.call('ZADD', prefix .. ':index:' .. o, 0, id) end
  end
end
local function add(...)
  return redis.call('XADD', prefix .. ':events:' .. id, 'MAXLEN', '~', 1000, '*', 'type', ...)
end
local function emit(...)
  local entry = add(...)
  redis.call('PUBLISH', prefix .. ':news:' .. id, id)
  return entry
end
local function move(from, to)
  local owner = redis.call('HGET', record, 'owner')
  index(owner, from, false)
  index(owner, to, true)
  redis.call('HSET', record, 'status', to)
end
local function finish(from, to, errorJson)
  move(from, to)
  redis.call('HSET', record, 'completed_at', now)
  if errorJson then redis.call('HSET', record, 'error', errorJson) end
  redis.call('ZADD', prefix .. ':ended', now, id)
  redis.call('HINCRBY', prefix .. ':counters', to, 1)
  redis.call('DEL', prefix .. ':checkpoint:' .. id)
  add('done', 'status', to)
  redis.call('EXPIRE', prefix .. ':events:' .. id, ${eventsRetentionSeconds})
  redis.call('PUBLISH', prefix .. ':ends', id)
end
local function ended(status) return status == 'succeeded' or status == 'failed' or status == 'canceled' end
`

const scripts = {
  // ARGV[4] idempotency key name or '', [5] its value, [6] its life in seconds, [7] most queued jobs of all, [8] of this owner (0 = no limit), [9] owner, [10…] fields
  easelCreate: `${preamble}
if ARGV[4] ~= '' then
  local before = redis.call('GET', ARGV[4])
  if before then return {'exists', before} end
end
if redis.call('EXISTS', record) == 1 then return {'exists', ''} end
local queued = redis.call('ZCARD', prefix .. ':index::queued')
if tonumber(ARGV[7]) > 0 and queued >= tonumber(ARGV[7]) then return {'queue_full', tostring(queued)} end
if tonumber(ARGV[8]) > 0 then
  local own = redis.call('ZCARD', prefix .. ':index:' .. ARGV[9] .. ':queued')
  if own >= tonumber(ARGV[8]) then return {'owner_queue_full', tostring(own)} end
end
redis.call('HSET', record, 'status', 'queued', unpack(ARGV, 10))
if ARGV[4] ~= '' then
  redis.call('SET', ARGV[4], ARGV[5], 'EX', ARGV[6])
  redis.call('HSET', record, 'idempotency_key', ARGV[4])
end
index(ARGV[9])
index(ARGV[9], 'queued', true)
redis.call('HINCRBY', prefix .. ':counters', 'created', 1)
emit('status', 'status', 'queued')
return {'created', ''}`,

  // ARGV[4] worker id, [5] the error of an expired job, JSON. Answers with what came of it and the record as it is then.
  easelStart: `${preamble}
local function start()
  local status = redis.call('HGET', record, 'status')
  if not status then return 'missing' end
  if ended(status) then return 'ended' end
  if redis.call('HGET', record, 'cancel_requested_at') then finish(status, 'canceled') return 'canceled' end
  if status == 'queued' then
    local expires = redis.call('HGET', record, 'expires_at')
    if expires and tonumber(now) > tonumber(expires) then finish('queued', 'failed', ARGV[5]) return 'expired' end
    move('queued', 'running')
    redis.call('HSET', record, 'started_at', now)
    emit('status', 'status', 'running')
  end
  redis.call('HSET', record, 'worker', ARGV[4])
  redis.call('HINCRBY', record, 'runs', 1)
  return 'running'
end
return {start(), redis.call('HGETALL', record)}`,

  // ARGV[4] step, [5] total
  easelProgress: `${preamble}
if redis.call('HGET', record, 'status') ~= 'running' then return 0 end
redis.call('HSET', record, 'step', ARGV[4], 'total', ARGV[5])
emit('progress', 'step', ARGV[4], 'total', ARGV[5])
return 1`,

  // ARGV[4] step, [5] image, [6] data URL. Only the latest preview of an image stays in the stream.
  easelPreview: `${preamble}
if redis.call('HGET', record, 'status') ~= 'running' then return 0 end
local field = 'preview_' .. ARGV[5]
local before = redis.call('HGET', record, field)
if before then redis.call('XDEL', prefix .. ':events:' .. id, before) end
redis.call('HSET', record, field, emit('preview', 'step', ARGV[4], 'image', ARGV[5], 'data_url', ARGV[6]))
return 1`,

  // ARGV[4] status, [5…] fields of the end. Who succeeds has made all steps, whether the last were told or not.
  easelEnd: `${preamble}
local status = redis.call('HGET', record, 'status')
if not status then return {'missing', ''} end
if ended(status) then return {'ended', status} end
local to = ARGV[4]
if redis.call('HGET', record, 'cancel_requested_at') then to = 'canceled' end
if #ARGV > 4 and to == ARGV[4] then redis.call('HSET', record, unpack(ARGV, 5)) end
local step, total = unpack(redis.call('HMGET', record, 'step', 'total'))
if to == 'succeeded' and total and step ~= total then
  redis.call('HSET', record, 'step', total)
  add('progress', 'step', total, 'total', total)
end
finish(status, to)
return {'claimed', to}`,

  easelRequestCancel: `${preamble}
local status = redis.call('HGET', record, 'status')
if not status then return 'missing' end
if status == 'canceled' then return 'already_canceled' end
if ended(status) then return 'finished' end
if status == 'queued' then
  redis.call('HSET', record, 'cancel_requested_at', now)
  finish('queued', 'canceled')
  return 'canceled'
end
redis.call('HSETNX', record, 'cancel_requested_at', now)
redis.call('PUBLISH', prefix .. ':cancel', id)
return 'cancel_requested'`,

  // ARGV[4] the error of an expired job, JSON
  easelExpire: `${preamble}
if redis.call('HGET', record, 'status') ~= 'queued' then return 0 end
local expires = redis.call('HGET', record, 'expires_at')
if not expires or tonumber(now) <= tonumber(expires) then return 0 end
finish('queued', 'failed', ARGV[4])
return 1`,

  // ARGV[4] its owner until now, [5] its owner from now on.
  easelAdopt: `${preamble}
local from, to = prefix .. ':index:' .. ARGV[4], prefix .. ':index:' .. ARGV[5]
redis.call('ZREM', from, id)
local owner, status = unpack(redis.call('HMGET', record, 'owner', 'status'))
if owner ~= ARGV[4] then return 0 end
redis.call('HSET', record, 'owner', ARGV[5])
redis.call('ZADD', to, 0, id)
if redis.call('ZREM', from .. ':' .. status, id) == 1 then redis.call('ZADD', to .. ':' .. status, 0, id) end
return 1`,

  // Takes every trace of a job away. An idempotency key may have run out and belong to another job by now.
  easelDelete: `${preamble}
local owner = redis.call('HGET', record, 'owner')
if owner then
  local status = redis.call('HGET', record, 'status')
  index(owner, status, false)
  redis.call('ZREM', prefix .. ':index:' .. owner, id)
end
redis.call('ZREM', prefix .. ':index:', id)
redis.call('ZREM', prefix .. ':ended', id)
local key = redis.call('HGET', record, 'idempotency_key')
local made = key and redis.call('GET', key)
if made and string.find(made, id, 1, true) then redis.call('DEL', key) end
redis.call('DEL', record, prefix .. ':events:' .. id, prefix .. ':checkpoint:' .. id, prefix .. ':webhook-attempts:' .. id)
return 1`,
} as const

type ScriptName = keyof typeof scripts
export type Transitions = Record<ScriptName, (...args: (string | number)[]) => Promise<unknown>>

/** Teaches a connection the scripts above; ioredis then sends their hashes. */
export function defineTransitions(redis: RedisConnection): Transitions {
  for (const [name, lua] of Object.entries(scripts)) redis.defineCommand(name, { numberOfKeys: 1, lua })
  return redis as unknown as Transitions
}
