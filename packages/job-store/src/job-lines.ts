/**
 * Which waiting job runs next, and at which position each of them is. `fair-share.ts` says whose turn it is. This module makes BullMQ's queue
 * agree: it puts the chosen job in front of all others, so that the next worker that asks BullMQ for a job gets that one. Everything that knows how
 * BullMQ keeps waiting jobs (the list `wait`, the set `prioritized`, the field `priority`) is here and in `job-queues.ts`.
 *
 * Invariant: a job in front has been chosen and charged. It does not matter which worker takes it: one that ends before it can take the job
 * leaves it for the next. Jobs that BullMQ puts back (handed over, stalled, retried) were charged earlier and go to the front too.
 *
 * Places: a worker has `places` for anyone and as many again, each of which is open only to an owner who has nothing running there. Runs in
 * the api, which reads, and in the worker's main process, which chooses.
 */
import { createKeys, generateQueueName } from '@easel/contract'
import { fairShareLua } from './fair-share.ts'
import { names, toLua, variable } from './lua-names.ts'
import { maxQueuePriority } from './queue-priority.ts'
import type { RedisConnection } from './redis.ts'

export interface ChooseOptions {
  /** The number of jobs that run on this worker now, by owner. */
  running: ReadonlyMap<string, number>
  /** The number of this worker's places for anyone's jobs, from 1. */
  places: number
  /** How many commands to take a job this worker has in flight. Above 0 only while a place is open to anyone. Default 0. */
  taking?: number
  /** The most jobs of one owner that run at once on all workers together; 0 = no limit. Default 0. */
  maxRunningOfOwner?: number
}

/**
 * `chosen`: a job is in front now; `more`: another one may run here at the same time. `unlisted`: the only waiting jobs have no place in the
 * share, so they are taken in BullMQ's order. `blocked`: jobs wait, but none of them may run here now; never while fewer than `places` jobs run
 * here and owners have no limit. `none`: no job waits.
 */
export type Choice = { result: 'chosen'; id: string; owner: string; more: boolean } | { result: 'unlisted' | 'blocked' | 'none' }

/** The waiting jobs of a model, as they are now. */
export interface WaitingJobs {
  /** The ids of jobs that were chosen or put back; they are taken before all others. */
  front: string[]
  lines: { owner: string; tag: number; weight: number; jobs: { id: string; costMs: number }[] }[]
}

export interface JobLines {
  choose(modelId: string, options: ChooseOptions): Promise<Choice>
  read(modelId: string): Promise<WaitingJobs>
  /** A text that changes whenever the result of `read` does, except for jobs that BullMQ puts back. */
  version(modelId: string): Promise<string>
}

/** How many jobs of an owner are examined to find one that BullMQ carries. Those before it are on their way into the queue, or were lost. */
const lookedAt = 50
/**
 * BullMQ scores a job with priority × 2^32 + a counter, and takes the one with the lowest score. What it puts back has the highest priority, 1.
 * Below are the jobs that were chosen, in the order in which they are to be taken.
 */
const firstScore = 2 ** 32

const preamble = `
local prefix, model, queue = ARGV[1], ARGV[2], ARGV[3]
local wait, prioritized = queue .. 'wait', queue .. 'prioritized'
${fairShareLua}
local function place(id, priority, score)
  redis.call('HSET', queue .. id, 'priority', priority)
  redis.call('ZADD', prioritized, score, id)
end
local function shareDrop(owner, id)
  shareLeave(readJob(id), 'queued', 0)
  redis.call('ZREM', ${toLua(names.shareLine(variable('model'), variable('owner')))}, id)
end
local front = {prioritized, '-inf', '(${2 * firstScore}', 'BYSCORE'}
`

const scripts = {
  // ARGV[4] the worker's places, [5] most running jobs of an owner, [6] jobs being taken, [7…] in turn an owner and the number of its jobs that
  // run on the worker.
  easelChoose: `${preamble}
local places, most, taking = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local here, total = {}, taking
for i = 7, #ARGV, 2 do
  here[ARGV[i]] = tonumber(ARGV[i + 1])
  total = total + here[ARGV[i]]
end
local function hasPlace(owner) return total < places or (total < 2 * places and not here[owner]) end
local function mayRun(owner)
  if most == 0 then return true end
  local running = redis.call('ZCARD', ${toLua(names.index(variable('owner'), 'running'))})
  return running + redis.call('SCARD', ${toLua(names.shareChosen(variable('model'), variable('owner')))}) < most
end
-- BullMQ takes from this list first, without regard to shares, so nothing may stay in it.
for _, id in ipairs(redis.call('LRANGE', wait, 0, -1)) do
  redis.call('LREM', wait, 1, id)
  local share = readShare(readJob(id))
  -- A job that is still in its owner's line has not been chosen; it was queued without a priority.
  if share and redis.call('ZSCORE', share.line, id) then
    place(id, ${maxQueuePriority}, ${maxQueuePriority * firstScore})
  else place(id, 1, ${firstScore}) end
end
-- The first jobs in front are for this worker's commands in flight, so they are passed over.
local passed, lastScore, left = {}, nil, redis.call('ZCARD', prioritized)
if taking > 0 then
  local chosen = redis.call('ZRANGE', prioritized, '-inf', '(${firstScore}', 'BYSCORE', 'LIMIT', 0, taking, 'WITHSCORES')
  for i = 1, #chosen, 2 do passed[chosen[i]], lastScore, left = true, tonumber(chosen[i + 1]), left - 1 end
end
if left == 0 then return {'none'} end
local blocked
-- The first job that may run here, its owner, and whether it is in front already.
local function find()
  blocked = false
  for _, id in ipairs(redis.call('ZRANGE', unpack(front))) do
    if not passed[id] then
      local owner = redis.call('HGET', ${toLua(names.job(variable('id')))}, 'owner') or ''
      if hasPlace(owner) then return id, owner, true end
      blocked = true
    end
  end
  for _, owner in ipairs(redis.call('ZRANGE', ${toLua(names.shareOwners(variable('model')))}, 0, -1)) do
    if hasPlace(owner) and mayRun(owner) then
      for _, id in ipairs(redis.call('ZRANGE', ${toLua(names.shareLine(variable('model'), variable('owner')))}, 0, ${lookedAt - 1})) do
        if redis.call('ZSCORE', prioritized, id) then return id, owner, false end
        -- A worker without shares has taken it, unless it is still queued: then it is on its way into BullMQ's queue.
        if redis.call('HGET', ${toLua(names.job(variable('id')))}, 'status') ~= 'queued' then shareDrop(owner, id) end
      end
    else blocked = true end
  end
end
local id, owner, isInFront = find()
if not id then return {blocked and 'blocked' or 'unlisted'} end
if not isInFront then
  local job = readJob(id)
  local share = readShare(job)
  shareTake(share, job)
  -- Only needed if owners have a limit.
  if most > 0 then redis.call('SADD', share.chosen, id) end
end
if lastScore then place(id, 1, lastScore + 1)
else
  local lowest = tonumber(redis.call('ZRANGE', prioritized, 0, 0, 'WITHSCORES')[2])
  place(id, 1, math.min(lowest, ${firstScore / 2}) - 1)
end
here[owner] = (here[owner] or 0) + 1
total, passed[id] = total + 1, true
-- While a place is open to anyone, any other waiting job may have it.
local more = left > 1 and (total < places and most == 0 or find() or not blocked)
return {'chosen', id, owner, more and 1 or 0}`,

  easelReadLines: `${preamble}
local ids = redis.call('ZRANGE', unpack(front))
local put = redis.call('LRANGE', wait, 0, -1)
for i = 1, #put do table.insert(ids, i, put[#put + 1 - i]) end
local lines = {}
for _, owner in ipairs(redis.call('ZRANGE', ${toLua(names.shareOwners(variable('model')))}, 0, -1)) do
  local share = ${toLua(names.share(variable('model')))}
  local line = redis.call('ZRANGE', ${toLua(names.shareLine(variable('model'), variable('owner')))}, 0, -1)
  local costs = {}
  for from = 1, #line, 1000 do
    local to = math.min(from + 999, #line)
    for _, cost in ipairs(redis.call('HMGET', ${toLua(names.shareCosts(variable('model')))}, unpack(line, from, to))) do
      costs[#costs + 1] = cost or '0'
    end
  end
  local tag, weight = unpack(redis.call('HMGET', share, 'tag:' .. owner, 'weight:' .. owner))
  lines[#lines + 1] = {owner, tag or '0', weight or '1', line, costs}
end
return {ids, lines}`,
} as const

type Scripts = Record<keyof typeof scripts, (key: string, ...args: (string | number)[]) => Promise<unknown>>

export function createJobLines({ redis, prefix }: { redis: RedisConnection; prefix: string }): JobLines {
  for (const [name, lua] of Object.entries(scripts)) redis.defineCommand(name, { numberOfKeys: 1, lua })
  const keys = createKeys(prefix)
  const run = (name: keyof typeof scripts, modelId: string, ...rest: (string | number)[]): Promise<unknown> =>
    (redis as unknown as Scripts)[name](keys.share(modelId), prefix, modelId, `${prefix}:${generateQueueName(modelId)}:`, ...rest)
  return {
    async choose(modelId, { running, places, taking = 0, maxRunningOfOwner = 0 }) {
      const reply = await run('easelChoose', modelId, places, maxRunningOfOwner, taking, ...[...running].flat())
      const [result, id = '', owner = '', more] = reply as [Choice['result'], string?, string?, number?]
      return result === 'chosen' ? { result, id, owner, more: more === 1 } : { result }
    },

    async read(modelId) {
      const [front, lines] = (await run('easelReadLines', modelId)) as [string[], [string, string, string, string[], string[]][]]
      return {
        front,
        lines: lines.map(([owner, tag, weight, ids, costs]) => ({
          owner,
          tag: Number(tag),
          weight: Number(weight),
          jobs: ids.map((id, i) => ({ id, costMs: Number(costs[i]) })),
        })),
      }
    },

    async version(modelId) {
      return (await redis.hget(keys.share(modelId), 'version')) ?? ''
    },
  }
}

/** The ids in the order in which they will be taken, if no other job comes and the estimates are right. Pure. */
export function toOrder({ front, lines }: WaitingJobs): string[] {
  const order = [...front]
  const inFront = new Set(front)
  const heads = lines.flatMap(({ jobs, ...line }) => (jobs.length === 0 ? [] : [{ ...line, jobs, next: 0 }]))
  while (heads.length > 0) {
    let first = heads[0] as (typeof heads)[number]
    // Redis orders equal tags by name.
    for (const head of heads) if (head.tag < first.tag || (head.tag === first.tag && head.owner < first.owner)) first = head
    const job = first.jobs[first.next++] as (typeof first.jobs)[number]
    if (!inFront.has(job.id)) order.push(job.id)
    first.tag += job.costMs / first.weight
    if (first.next === first.jobs.length) heads.splice(heads.indexOf(first), 1)
  }
  return order
}
