/**
 * The one way into the queue, for every dialect: checks, decides the whole input, writes the record, enqueues its id. A job that a client
 * was told of has a record and will be run.
 */
import { v7 as uuidv7 } from 'uuid'
import { ProblemError, jobIdCreatedAt } from '@easel/contract'
import type { CreateJobRequest, ModelRecord } from '@easel/contract'
import type { JobRecord, NewJobRecord } from '@easel/job-store'
import type { AppDeps } from '../app.ts'
import { describeValue } from '../middleware/field-errors.ts'
import { refuseFields } from '../middleware/problem.ts'
import { judgeWebhookUrl } from '../webhooks/judge-webhook-url.ts'
import { enqueueJob } from './enqueue-job.ts'
import { checkRequest, resolveInput } from './resolve-input.ts'

/** Seconds after which a request that found no worker is worth repeating: loading a model takes that long. */
const noWorkerRetrySeconds = 10

export interface SubmitContext {
  /** Whose job it is: hash of the API key, or `public`. */
  owner: string
  requestId: string
  /** Value of the Idempotency-Key header. */
  idempotencyKey?: string
}

export async function submitJob(
  deps: AppDeps,
  request: CreateJobRequest,
  context: SubmitContext,
): Promise<{ record: JobRecord; /** Whether an earlier request made the job. */ replayed: boolean }> {
  const { config, logger, store } = deps

  // 1. What can be judged without a model, so that a bad request gets the same answer with or without workers.
  const errors = checkRequest(request, { maxPromptLength: config.MAX_PROMPT_LENGTH })
  if (request.webhook !== undefined) {
    const expected = judgeWebhookUrl(request.webhook, { allowInsecure: config.WEBHOOK_ALLOW_INSECURE })
    if (expected !== undefined) errors.push({ field: 'webhook', expected, received: describeValue(request.webhook) })
  }
  if (errors.length > 0) throw refuseFields(errors)

  // 2. What the model takes, and every default.
  const model = await findModel(deps, request.model)
  const resolved = resolveInput(request, model)
  if ('errors' in resolved) throw refuseFields(resolved.errors)
  const record = toNewRecord(request, resolved.input, context)

  // 3. The record first, then the queue: an id in the queue always has a record.
  const limits = { maxQueued: config.MAX_QUEUED_JOBS, maxQueuedOfOwner: config.MAX_QUEUED_JOBS_PER_KEY }
  const created = await store.create(record, limits)
  if (created.result === 'queue_full' || created.result === 'owner_queue_full') {
    const whose = created.result === 'queue_full' ? '' : ' of yours'
    throw new ProblemError('queue_full', `${created.queued} jobs${whose} are waiting already.`, { retryAfterSeconds: 5 })
  }
  try {
    await enqueueJob(deps, record)
  } catch (error) {
    await store.delete(record.id).catch(() => {})
    throw new ProblemError('queue_unavailable', undefined, { retryAfterSeconds: 5, cause: error })
  }
  const { input } = record
  logger.info({ requestId: context.requestId, jobId: record.id, model: input.model, steps: input.num_inference_steps }, 'job queued')
  return { record: { ...record, ...freshState(input.num_inference_steps) }, replayed: false }
}

async function findModel({ config, registry }: AppDeps, requested: string | undefined): Promise<ModelRecord> {
  const id = requested ?? config.defaultModel
  const model = await registry.model(id)
  if (model !== undefined) return model
  const known = (await registry.models()).map((other) => other.id)
  if (known.length === 0) throw new ProblemError('no_worker', undefined, { retryAfterSeconds: noWorkerRetrySeconds })
  const served = `Served here: ${known.join(', ')}.`
  if (requested === undefined) {
    const detail = `No worker has announced the default model ${id} yet. ${served}`
    throw new ProblemError('no_worker', detail, { retryAfterSeconds: noWorkerRetrySeconds })
  }
  const errors = [{ field: 'model', expected: `one of ${known.join(', ')}`, received: requested }]
  throw new ProblemError('model_not_found', `There is no model ${requested}. ${served}`, { errors })
}

function toNewRecord(request: CreateJobRequest, input: NewJobRecord['input'], context: SubmitContext): NewJobRecord {
  const id = uuidv7()
  const createdAt = jobIdCreatedAt(id)
  const record: NewJobRecord = { id, owner: context.owner, createdAt, input, priority: request.priority ?? 0, requestId: context.requestId }
  if (request.webhook !== undefined) record.webhook = request.webhook
  if (request.webhook_events_filter !== undefined) record.webhookEventsFilter = request.webhook_events_filter
  if (request.preview_every !== undefined) record.previewEvery = request.preview_every
  if (request.expires_in !== undefined) record.expiresAt = createdAt + request.expires_in * 1000
  if (request.timeout !== undefined) record.timeoutSeconds = request.timeout
  return record
}

/** What a record that was made a moment ago says beside its input. */
function freshState(steps: number): Omit<JobRecord, keyof NewJobRecord> {
  return {
    status: 'queued',
    startedAt: undefined,
    completedAt: undefined,
    cancelRequestedAt: undefined,
    progress: { step: 0, total: steps },
    worker: undefined,
    runs: 0,
    strikes: 0,
    output: undefined,
    error: undefined,
    timings: undefined,
  }
}
