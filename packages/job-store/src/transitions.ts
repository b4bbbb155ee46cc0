/**
 * The job state machine as Lua scripts. Each transition reads and writes the record, its indexes and its event stream in one step, so that
 * two processes can never both end a job, and no follower sees an end that the record does not have.
 *
 *   create ─► queued ─ start ─► running ─ end ─► succeeded | failed | canceled
 *               │                 └─ requestCancel: marks it; whatever end comes next is `canceled`
 *               └─ requestCancel ─► canceled, or start after expires_at ─► failed
 *
 * All keys of one Easel share a hash tag, so the scripts may build further key names from the prefix.
 */
import { eventsRetentionSeconds } from '@easel/contract'
import { fairShareLua } from './fair-share.ts'
import { names, toLua, variable } from './lua-names.ts'
import type { RedisConnection } from './redis.ts'

// KEYS[1] is the record; ARGV[1] the prefix, ARGV[2] the job id, ARGV[3] now in ms, ARGV[4] the id of this call. A call that is sent again
// because its reply was lost has the same id. If its work was already done under that id, it returns the same answer as the first time.
const preamble = `
local record, prefix, id, now, call = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local events = ${toLua(names.events(variable('id')))}
local counters = ${toLua(names.counters)}
local function indexOf(owner, status)
  if status then return ${toLua(names.index(variable('owner'), variable('status')))} end
  return ${toLua(names.index(variable('owner')))}
end
local function index(owner, status, add)
  for _, o in ipairs({'', owner}) do
    if add then redis.call('ZADD', indexOf(o, status), 0, id) else redis.call('ZREM', indexOf(o, status), id) end
  end
end
local function add(...)
  return redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'type', ...)
end
local function emit(...)
  local entry = add(...)
  redis.call('PUBLISH', ${toLua(names.newsChannel(variable('id')))}, id)
  return entry
end
`

const withShare = `${preamble}
${fairShareLua}
local function ended(status) return status == 'succeeded' or status == 'failed' or status == 'canceled' end
`

const withEnd = `${withShare}
-- ...: other fields that change with the status.
local function move(job, to, ...)
  index(job.owner, job.status, false)
  index(job.owner, to, true)
  redis.call('HSET', record, 'status', to, ...)
end
-- Milliseconds of the device: as the worker measured them, else the job's cost in proportion to the steps it ran.
local function tookMs(job)
  if job.status == 'queued' then return 0 end
  if job.gpu_ms then return tonumber(job.gpu_ms) end
  return math.floor((job.cost_ms or 0) * (job.step or 0) / math.max(1, job.total or 1) + 0.5)
end
local function addTo(key, counts)
  for field, count in pairs(counts) do if count ~= 0 then redis.call('HINCRBY', key, field, count) end end
end
local function keepUsage(job, took, sign)
  local owner = job.owner
  addTo(${toLua(names.usage(variable('owner')))}, {
    kept_gpu_ms = sign * took, kept_jobs = sign, kept_pictures = sign * (job.pictures or 0), kept_bytes = sign * (job.bytes or 0),
  })
end
local function countUsage(job, took)
  keepUsage(job, took, 1)
  local owner, day = job.owner, math.floor(now / 86400000)
  local today = ${toLua(names.usageOfDay(variable('owner'), variable('day')))}
  addTo(today, {gpu_ms = took, jobs = 1, pictures = job.pictures or 0, bytes = job.bytes or 0})
  redis.call('EXPIRE', today, 172800)
  redis.call('ZINCRBY', ${toLua(names.usageOwners)}, took, owner)
end
-- All fields of the record that change while a job lives, so that callers that wait for the end need not read the record.
local function changes(job, to, ...)
  local fields = {'status', to, 'completed_at', now, ...}
  for _, field in ipairs({'step', 'total', 'stepped_at', 'started_at', 'worker', 'runs', 'strikes'}) do
    if job[field] then
      table.insert(fields, field)
      table.insert(fields, job[field])
    end
  end
  return cjson.encode(fields)
end
-- ...: other fields that change with the end.
local function finish(job, to, ...)
  local took = tookMs(job)
  shareLeave(job, job.status, took)
  countUsage(job, took)
  move(job, to, 'gpu_ms', took, 'completed_at', now, 'ended_by', call, ...)
  redis.call('ZADD', ${toLua(names.ended)}, now, id)
  redis.call('HINCRBY', counters, to, 1)
  redis.call('DEL', ${toLua(names.checkpoint(variable('id')))})
  add('done', 'status', to)
  redis.call('EXPIRE', events, ${eventsRetentionSeconds})
  redis.call('PUBLISH', ${toLua(names.endsChannel)}, id .. (to == 'succeeded' and changes(job, to, ...) or ''))
end
`

const scripts = {
  // ARGV[5] names of idempotency keys, JSON: each is read, and the first is written; [6] its value, [7] its life in seconds, [8] most queued jobs
  // of all owners, [9] of this owner, [10] most queued milliseconds of this owner (0 = no limit), [11] cost of the job in milliseconds,
  // [12] owner, [13…] fields
  easelCreate: `${withShare}
if redis.call('EXISTS', record) == 1 then return {'created', ''} end
local keys = cjson.decode(ARGV[5])
for _, key in ipairs(keys) do
  local before = redis.call('GET', key)
  if before then return {'exists', before} end
end
local queued = redis.call('ZCARD', indexOf('', 'queued'))
if tonumber(ARGV[8]) > 0 and queued >= tonumber(ARGV[8]) then return {'queue_full', tostring(queued)} end
if tonumber(ARGV[9]) > 0 then
  local own = redis.call('ZCARD', indexOf(ARGV[12], 'queued'))
  if own >= tonumber(ARGV[9]) then return {'owner_queue_full', tostring(own)} end
end
if tonumber(ARGV[10]) > 0 then
  local owner = ARGV[12]
  local own = tonumber(redis.call('HGET', ${toLua(names.usage(variable('owner')))}, 'queued_ms') or 0)
  -- A job that is larger than the limit may still be the only one.
  if own > 0 and own + tonumber(ARGV[11]) > tonumber(ARGV[10]) then return {'owner_work_full', tostring(own)} end
end
local job = {id = id, record = record}
for i = 13, #ARGV, 2 do job[ARGV[i]] = ARGV[i + 1] end
redis.call('HSET', record, 'status', 'queued', unpack(ARGV, 13))
if keys[1] then
  redis.call('SET', keys[1], ARGV[6], 'EX', ARGV[7])
  redis.call('HSET', record, 'idempotency_key', keys[1])
end
index(ARGV[12], nil, true)
index(ARGV[12], 'queued', true)
shareJoin(job)
redis.call('HINCRBY', counters, 'created', 1)
-- No follower can be waiting for news about it yet.
add('status', 'status', 'queued')
return {'created', ''}`,

  // ARGV[5] worker id, [6] the error of an expired job, JSON. Returns the outcome and the record as it is afterwards.
  easelStart: `${withEnd}
local job = readJob(id)
local function start()
  if not job.status then return 'missing' end
  if ended(job.status) then
    if job.ended_by ~= call then return 'ended' end
    return job.status == 'canceled' and 'canceled' or 'expired'
  end
  if job.cancel_requested_at then finish(job, 'canceled') return 'canceled' end
  if job.started_by == call then return 'running' end
  local run = {'worker', ARGV[5], 'started_by', call, 'runs', (job.runs or 0) + 1}
  if job.status == 'running' then redis.call('HSET', record, unpack(run)) return 'running' end
  if job.expires_at and tonumber(now) > tonumber(job.expires_at) then finish(job, 'failed', 'error', ARGV[6]) return 'expired' end
  shareStart(job)
  move(job, 'running', 'started_at', now, unpack(run))
  emit('status', 'status', 'running')
  return 'running'
end
return {start(), redis.call('HGETALL', record)}`,

  // Returns the number of strikes so far.
  easelAddStrike: `${preamble}
if redis.call('HGET', record, 'struck_by') == call then return tonumber(redis.call('HGET', record, 'strikes')) end
redis.call('HSET', record, 'struck_by', call)
return redis.call('HINCRBY', record, 'strikes', 1)`,

  // ARGV[5] step, [6] total
  easelProgress: `${preamble}
if redis.call('HGET', record, 'status') ~= 'running' then return 0 end
redis.call('HSET', record, 'step', ARGV[5], 'total', ARGV[6], 'stepped_at', now)
emit('progress', 'step', ARGV[5], 'total', ARGV[6])
return 1`,

  // ARGV[5] step, [6] image, [7] data URL. Only the latest preview of an image stays in the stream.
  easelPreview: `${preamble}
if redis.call('HGET', record, 'status') ~= 'running' then return 0 end
local field = 'preview_' .. ARGV[6]
local before = redis.call('HGET', record, field)
if before then redis.call('XDEL', events, before) end
redis.call('HSET', record, field, emit('preview', 'step', ARGV[5], 'image', ARGV[6], 'data_url', ARGV[7]))
return 1`,

  // ARGV[5] status, [6…] fields of the end. A job that succeeds has run all its steps, whether the last ones were reported or not.
  easelEnd: `${withEnd}
local job = readJob(id)
if not job.status then return {'missing', ''} end
if ended(job.status) then return {job.ended_by == call and 'claimed' or 'ended', job.status} end
if job.cancel_requested_at and ARGV[5] ~= 'canceled' then finish(job, 'canceled') return {'claimed', 'canceled'} end
for i = 6, #ARGV, 2 do job[ARGV[i]] = ARGV[i + 1] end
if ARGV[5] == 'succeeded' and job.total and job.step ~= job.total then
  job.step = job.total
  add('progress', 'step', job.total, 'total', job.total)
end
finish(job, ARGV[5], 'step', job.step or 0, unpack(ARGV, 6))
return {'claimed', ARGV[5]}`,

  easelRequestCancel: `${withEnd}
local job = readJob(id)
if not job.status then return 'missing' end
if job.status == 'canceled' then return job.ended_by == call and 'canceled' or 'already_canceled' end
if ended(job.status) then return 'finished' end
if job.status == 'queued' then
  finish(job, 'canceled', 'cancel_requested_at', now)
  return 'canceled'
end
redis.call('HSETNX', record, 'cancel_requested_at', now)
redis.call('PUBLISH', ${toLua(names.cancelChannel)}, id)
return 'cancel_requested'`,

  // ARGV[5] the error of an expired job, JSON
  easelExpire: `${withEnd}
local job = readJob(id)
if job.status ~= 'queued' then return job.ended_by == call and 1 or 0 end
if not job.expires_at or tonumber(now) <= tonumber(job.expires_at) then return 0 end
finish(job, 'failed', 'error', ARGV[5])
return 1`,

  // ARGV[5] the input with its prompts cut, JSON
  easelTruncateInput: `${preamble}
if redis.call('EXISTS', record) == 1 then redis.call('HSET', record, 'input', ARGV[5], 'input_truncated', 1) end
return 1`,

  // ARGV[5] cost in milliseconds, [6] weight of its owner. For a queued job that an Easel without shares made.
  easelEnlist: `${withShare}
local job = readJob(id)
if job.status ~= 'queued' or job.cost_ms then return 0 end
job.model, job.cost_ms, job.weight = cjson.decode(redis.call('HGET', record, 'input')).model, ARGV[5], ARGV[6]
redis.call('HSET', record, 'model', job.model, 'cost_ms', job.cost_ms, 'weight', job.weight)
shareJoin(job)
return 1`,

  // ARGV[5] its present owner, [6] its new owner.
  easelAdopt: `${withEnd}
local from, to = ARGV[5], ARGV[6]
redis.call('ZREM', indexOf(from), id)
local job = readJob(id)
if job.owner ~= from then return 0 end
local waits = job.status == 'queued' and not job.charged
local took = ended(job.status) and tonumber(job.gpu_ms)
if waits then shareLeave(job, 'queued', 0) end
if took then keepUsage(job, took, -1) end
job.owner = to
redis.call('HSET', record, 'owner', to)
if waits then shareJoin(job) end
if took then keepUsage(job, took, 1) end
redis.call('ZADD', indexOf(to), 0, id)
if redis.call('ZREM', indexOf(from, job.status), id) == 1 then redis.call('ZADD', indexOf(to, job.status), 0, id) end
return 1`,

  // Removes every trace of a job. With ARGV[5] 'keep' the attempts to deliver webhooks stay. The job's idempotency key may have expired and
  // belong to another job by now.
  easelDelete: `${withEnd}
local job = readJob(id)
if job.owner then
  if ended(job.status) then keepUsage(job, tonumber(job.gpu_ms) or 0, -1) else shareLeave(job, job.status, tookMs(job)) end
  index(job.owner, job.status, false)
  index(job.owner, nil, false)
end
redis.call('ZREM', indexOf(''), id)
redis.call('ZREM', ${toLua(names.ended)}, id)
local key = redis.call('HGET', record, 'idempotency_key')
local made = key and redis.call('GET', key)
if made and string.find(made, id, 1, true) then redis.call('DEL', key) end
redis.call('DEL', record, events, ${toLua(names.checkpoint(variable('id')))})
if ARGV[5] ~= 'keep' then redis.call('DEL', ${toLua(names.webhookAttempts(variable('id')))}) end
return 1`,
} as const

type ScriptName = keyof typeof scripts
export type Transitions = Record<ScriptName, (...args: (string | number)[]) => Promise<unknown>>

/** Defines the scripts above on a connection; ioredis then sends their hashes. */
export function defineTransitions(redis: RedisConnection): Transitions {
  for (const [name, lua] of Object.entries(scripts)) redis.defineCommand(name, { numberOfKeys: 1, lua })
  return redis as unknown as Transitions
}
