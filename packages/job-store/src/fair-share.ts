/**
 * Fair share: how the device's time is divided among owners. Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM
 * 1996), extended to several jobs in service at once (SFQ(D): Jin, Chase, Kaur, SIGMETRICS 2004). Packets are jobs, and bytes are
 * milliseconds of device time.
 *
 * Each owner has a tag: device time in milliseconds, divided by the owner's weight. Among the owners whose jobs wait, the one with the
 * smallest tag goes next, and the estimated cost of its job is added to its tag when the job is chosen. The clock is the tag at which the
 * last job was chosen. When an owner comes back, its tag is not behind the clock: an owner that was away has neither credit nor debt.
 *
 *   join      a job waits          tag = max(tag, clock), if no other job of the owner waits
 *   take      it is chosen         clock = max(clock, tag); tag += cost / weight
 *   leave     it has ended         tag += (what it took - cost) / weight; a job that never ran took nothing
 *   idle      nothing waits or runs: all tags and the clock are reset, so using an idle machine leaves no debt
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
-- A job: the fields of its record that scripts need for their decisions, in one read. A field that the record lacks is nil.
local function readJob(id)
  local job = {id = id, record = ${toLua(names.job(variable('id')))}}
  local fields = {'status', 'owner', 'model', 'cost_ms', 'weight', 'created_at', 'priority', 'expires_at', 'charged', 'cancel_requested_at',
    'started_at', 'started_by', 'ended_by', 'worker', 'runs', 'strikes', 'step', 'stepped_at', 'total', 'gpu_ms', 'pictures', 'bytes'}
  for i, value in ipairs(redis.call('HMGET', job.record, unpack(fields))) do job[fields[i]] = value or nil end
  return job
end

-- The share of a job's model, with the clock and the owner's tag and weight; nil for a job without a cost, made by an Easel without shares.
local function readShare(job)
  if not job.model or not job.cost_ms then return nil end
  local share = {
    state = ${toLua(names.share(model))},
    owners = ${toLua(names.shareOwners(model))},
    line = ${toLua(names.shareLine(model, owner))},
    chosen = ${toLua(names.shareChosen(model, owner))},
    costs = ${toLua(names.shareCosts(model))},
  }
  local clock, tag, weight = unpack(redis.call('HMGET', share.state, 'clock', 'tag:' .. job.owner, 'weight:' .. job.owner))
  share.clock, share.tag, share.weight = tonumber(clock or 0), tonumber(tag or clock or 0), tonumber(weight or 1)
  return share
end
-- change: what has happened to the job. Together with the job id it is a version that no other state has.
local function writeShare(share, job, change)
  local of = ':' .. job.owner
  redis.call('HSET', share.state, 'clock', share.clock, 'tag' .. of, share.tag, 'weight' .. of, share.weight, 'version', change .. of .. ':' .. job.id)
  redis.call('ZADD', share.owners, 'XX', share.tag, job.owner)
end
local function leaveLine(share, job)
  local left = redis.call('ZREM', share.line, job.id) == 1
  if left and redis.call('ZCARD', share.line) == 0 then redis.call('ZREM', share.owners, job.owner) end
end
local function addQueuedMs(job, ms) redis.call('HINCRBY', ${toLua(names.usage(owner))}, 'queued_ms', ms) end

local function shareJoin(job)
  local share = readShare(job)
  if not share then return end
  redis.call('HSET', share.costs, job.id, job.cost_ms)
  addQueuedMs(job, job.cost_ms)
  share.weight = job.weight or 1
  if redis.call('ZCARD', share.line) == 0 then share.tag = math.max(share.tag, share.clock) end
  redis.call('ZADD', share.line, tonumber(job.created_at) - tonumber(job.priority or 0) * ${secondsPerPriorityLevel * 1000}, job.id)
  redis.call('ZADD', share.owners, share.tag, job.owner)
  writeShare(share, job, 'join')
end

-- The job is chosen, and its owner is charged: once, however often the job is handed over.
local function shareTake(share, job)
  if job.charged then return end
  redis.call('HSET', job.record, 'charged', 1)
  leaveLine(share, job)
  share.clock = math.max(share.clock, share.tag)
  share.tag = share.tag + job.cost_ms / share.weight
  writeShare(share, job, 'take')
end

-- The job begins for the first time.
local function shareStart(job)
  local share = readShare(job)
  if not share then return end
  shareTake(share, job)
  redis.call('SREM', share.chosen, job.id)
  addQueuedMs(job, -job.cost_ms)
end

-- The job ends, or is deleted. from: its status until now. took: milliseconds of the device, 0 for a job that never began.
local function shareLeave(job, from, took)
  local share = readShare(job)
  if not share or redis.call('HDEL', share.costs, job.id) == 0 then return end
  if from == 'queued' then addQueuedMs(job, -job.cost_ms) end
  -- A worker without shares leaves the jobs that it takes in their lines.
  if from == 'queued' or not job.charged then
    leaveLine(share, job)
    redis.call('SREM', share.chosen, job.id)
  end
  if redis.call('HLEN', share.costs) == 0 then
    redis.call('DEL', share.state, share.owners)
    return
  end
  if job.charged then share.tag = share.tag + (took - job.cost_ms) / share.weight end
  writeShare(share, job, 'leave')
end
`
