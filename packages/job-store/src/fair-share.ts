/**
 * Fair share: how the device's time is divided among owners. Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM
 * 1996), extended to several jobs in service at once (SFQ(D): Jin, Chase, Kaur, SIGMETRICS 2004). Packets are jobs, and bytes are
 * milliseconds of device time.
 *
 * Each owner has a tag: device time in milliseconds, divided by the owner's weight. Among the owners whose jobs wait, the one with the
 * smallest tag goes next, and the estimated cost of its job is added to its tag when the job is chosen. The clock is the tag at which the
 * last job was chosen. When an owner comes back, its tag is not behind the clock: whoever was away has saved nothing up and owes nothing.
 *
 *   join      a job waits          tag = max(tag, clock), if no other job of the owner waits
 *   take      it is chosen         clock = max(clock, tag); tag += cost / weight
 *   leave     it has ended         tag += (what it took - cost) / weight; a job that never ran took nothing
 *   idle      nothing waits or runs: all tags and the clock start again, and whoever filled an idle machine owes nothing
 *
 * Tags belong to owners, not to waiting jobs. So a correction or a refund moves all of an owner's waiting jobs without touching any of them,
 * and the order among an owner's own jobs depends only on priority and age (`secondsPerPriorityLevel`).
 *
 * While two owners with weights v and w both have jobs waiting, their device times per unit of weight differ, over any span, by at most
 * L/v + L/w, where L is the cost of the largest job of either. From one of its jobs to the next, an owner of weight w waits at most for the
 * sum over the other owners of (c · v / w + L), where c is the cost of its own job, v the other's weight and L the other's largest job, and
 * for the D jobs that are running.
 *
 * It lives in Redis, as functions that the scripts of `transitions.ts` and `job-lines.ts` call within the same atomic step. For each model
 * there are a hash with clock, tags and weights, the owners with waiting jobs by tag, a line of waiting jobs for each owner, and the cost of
 * every job that waits or runs. Knows nothing about BullMQ.
 */
import { names, toLua, variable } from './lua-names.ts'
import { secondsPerPriorityLevel } from './queue-priority.ts'

const [model, owner] = [variable('job.model'), variable('job.owner')]

/** The script must define `prefix`, the first part of every name. */
export const fairShareLua = `
-- What the share knows of a job; nil for a job without a cost, made by an Easel without shares.
local function shareJob(id)
  local record = ${toLua(names.job(variable('id')))}
  local model, owner, cost = unpack(redis.call('HMGET', record, 'model', 'owner', 'cost_ms'))
  if not model or not cost then return nil end
  local job = {id = id, record = record, model = model, owner = owner, cost = tonumber(cost)}
  job.share = ${toLua(names.share(model))}
  job.line = ${toLua(names.shareLine(model, owner))}
  job.chosen = ${toLua(names.shareChosen(model, owner))}
  job.costs = ${toLua(names.shareCosts(model))}
  job.owners = ${toLua(names.shareOwners(model))}
  job.usage = ${toLua(names.usage(owner))}
  return job
end
local function shareClock(job) return tonumber(redis.call('HGET', job.share, 'clock') or 0) end
local function shareTag(job) return tonumber(redis.call('HGET', job.share, 'tag:' .. job.owner) or shareClock(job)) end
local function shareWeight(job) return tonumber(redis.call('HGET', job.share, 'weight:' .. job.owner) or 1) end
local function setShareTag(job, tag)
  redis.call('HSET', job.share, 'tag:' .. job.owner, tag)
  if redis.call('ZCARD', job.line) > 0 then redis.call('ZADD', job.owners, tag, job.owner) else redis.call('ZREM', job.owners, job.owner) end
  redis.call('INCR', ${toLua(names.shareVersion(model))})
end

local function shareJoin(id)
  local job = shareJob(id)
  if not job then return end
  local created, priority, weight = unpack(redis.call('HMGET', job.record, 'created_at', 'priority', 'weight'))
  redis.call('HSET', job.share, 'weight:' .. job.owner, weight or 1)
  redis.call('HSET', job.costs, id, job.cost)
  redis.call('HINCRBY', job.usage, 'queued_ms', job.cost)
  local waits = redis.call('ZCARD', job.line) > 0
  redis.call('ZADD', job.line, tonumber(created) - tonumber(priority or 0) * ${secondsPerPriorityLevel * 1000}, id)
  setShareTag(job, waits and shareTag(job) or math.max(shareTag(job), shareClock(job)))
end

-- The job is chosen, and its owner is charged: once, however often the job is handed over.
local function shareTake(job)
  if redis.call('HSETNX', job.record, 'charged', 1) == 0 then return end
  local tag = shareTag(job)
  redis.call('ZREM', job.line, job.id)
  redis.call('HSET', job.share, 'clock', math.max(shareClock(job), tag))
  setShareTag(job, tag + job.cost / shareWeight(job))
end

-- The job begins for the first time.
local function shareStart(id)
  local job = shareJob(id)
  if not job then return end
  shareTake(job)
  redis.call('SREM', job.chosen, id)
  redis.call('HINCRBY', job.usage, 'queued_ms', -job.cost)
end

-- The job ends, or is deleted. from: its status until now. took: milliseconds of the device, 0 for a job that never began.
local function shareLeave(id, from, took)
  local job = shareJob(id)
  if not job or redis.call('HDEL', job.costs, id) == 0 then return end
  local tag = shareTag(job)
  redis.call('ZREM', job.line, id)
  redis.call('SREM', job.chosen, id)
  if from == 'queued' then redis.call('HINCRBY', job.usage, 'queued_ms', -job.cost) end
  if redis.call('HGET', job.record, 'charged') then tag = tag + (took - job.cost) / shareWeight(job) end
  setShareTag(job, tag)
  if redis.call('HLEN', job.costs) == 0 then redis.call('DEL', job.share, job.owners) end
end
`
