/**
 * The only way into the queue, for every dialect: checks the request, decides the whole input, writes the record, enqueues its id. A job whose
 * id a client has received has a record and will run.
 */
import { ProblemError, countStepsRun } from '@easel/contract'
import type { ModelRecord, ReplayOf } from '@easel/contract'
import { UnusablePicture } from '@easel/input-pictures'
import { toCostMs } from '@easel/job-store'
import type { CreateOptions, CreateResult, JobRecord, NewJobRecord, RegisteredModel } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { describeValue } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'
import { holdInput, releaseInputs } from '../inputs/hold-inputs.ts'
import { withPlace } from '../inputs/picture-places.ts'
import { isSent, takePictures, toRefusal } from '../inputs/take-picture.ts'
import type { TakenPictures } from '../inputs/take-picture.ts'
import { calledUrl } from '../public-url.ts'
import { judgeUrl } from '../outbound/judge-url.ts'
import { isPastRetention } from '../past-retention.ts'
import { enqueueJob } from './enqueue-job.ts'
import type { FindNeeds } from './find-job.ts'
import { findPictureOfJob } from './find-picture-of-job.ts'
import { findModel } from './find-model.ts'
import { toIdempotency } from './idempotency.ts'
import { judgeByModel } from './judge-by-model.ts'
import { newJobId } from './new-job-id.ts'
import { checkRequest, resolveInput } from './resolve-input.ts'
import type { SubmitRequest } from './resolve-input.ts'

export type SubmitNeeds = FindNeeds &
  Pick<AppDeps, 'apiKeys' | 'estimator' | 'inputs' | 'logger' | 'outbox' | 'queues' | 'registry' | 'storage'>

export interface SubmitContext {
  /** The owner of the job: the name of the API key, its hash where it has no name, or `public`. */
  owner: string
  requestId: string
  /** The value of the Idempotency-Key header, as received. */
  idempotencyKey?: string
  /** The dialect of the request. Default none. */
  dialect?: string
  /** The job that the new one repeats. Default none. */
  replayOf?: ReplayOf
}

export interface SubmittedJob {
  record: JobRecord
  /** Whether an earlier request with the same Idempotency-Key made the job. */
  replayed: boolean
}

export async function submitJob(deps: SubmitNeeds, request: SubmitRequest, context: SubmitContext): Promise<SubmittedJob> {
  const { config } = deps

  // 1. What can be checked without a model, so that a bad request gets the same answer with or without workers.
  const errors = checkRequest(request, config)
  let webhook: string | undefined
  if (request.webhook !== undefined) {
    const judged = judgeUrl(request.webhook, { allowInsecure: config.webhookAllowInsecure })
    if (judged.url === undefined) errors.push({ field: 'webhook', expected: judged.expected, received: describeValue(request.webhook) })
    webhook = judged.url
  }
  const usualNames = context.dialect !== undefined
  if (errors.length > 0) throw refuseFields([...errors, ...(await judgeByModel(deps, request, { usualNames }))])
  if (request.mask !== undefined && request.image === undefined) {
    throw refuseFields([{ field: 'mask', expected: 'nothing without image', received: 'a picture' }], 'invalid_image')
  }

  const { owner } = context
  const identify = toIdentify(deps, request, context)
  const identity = identify({})

  // 2. What the model accepts, the input pictures, and all defaults.
  const model = await findModel(deps, request.model, { usualNames })
  refuseUnknownLoras(request, model)
  const wish: Wish = { request: { ...request, webhook }, model, pictures: {}, idempotency: identity }
  if (request.image === undefined) return await enqueueNew(deps, wish, context)
  if (model.has_vae_encoder !== true) {
    const expected = `nothing, as ${model.id} has no VAE encoder and takes no pictures`
    throw refuseFields([{ field: 'image', expected, received: 'a picture' }])
  }
  const submitWithPictures = async (): Promise<SubmittedJob> => {
    let pictures: TakenPictures
    try {
      pictures = await takePictures(deps, request, { owner, findOfJob: (id, field) => findPictureOfJob(deps, id, field, owner) })
    } catch (error) {
      // When a request is repeated, its URL may no longer serve the picture. The job that it made has a copy.
      const earlier = identity === undefined || !(error instanceof ProblemError) ? undefined : await deps.store.findKeyed(identity)
      if (earlier?.askedFingerprint === undefined || earlier.askedFingerprint !== identity?.fingerprint) throw error
      return { record: await replay(deps, earlier.jobId), replayed: true }
    }
    const byBytes = identity && { ...identity, ...identify(pictures), askedFingerprint: identity.fingerprint }
    return await enqueueNew(deps, { ...wish, pictures, idempotency: byBytes }, context)
  }
  // A request that contains its pictures has had a place since before they were read.
  return await (isSent(request.image) ? submitWithPictures() : withPlace(owner, submitWithPictures))
}

/** A request that has been checked as far as possible without the queue. */
interface Wish {
  request: Omit<SubmitRequest, 'webhook'> & { webhook: string | undefined }
  model: RegisteredModel
  pictures: TakenPictures
  idempotency: CreateOptions['idempotency']
}

/**
 * How a repeated request is recognised. The pictures in `pictures` are compared by their bytes, wherever they come from; those that have not been
 * read yet are compared by how the request names them. Throws when the key is invalid.
 */
function toIdentify({ apiKeys, config }: SubmitNeeds, request: SubmitRequest, { owner, idempotencyKey, replayOf }: SubmitContext) {
  return (pictures: TakenPictures): Wish['idempotency'] => {
    if (idempotencyKey === undefined) return undefined
    const sent = (['image', 'mask'] as const).filter((field) => isSent(request[field]))
    const hashes = {
      // Megabytes of bytes as JSON would exhaust the memory. Their hash is in `pictures` by the time it matters.
      ...Object.fromEntries(sent.map((field) => [field, 'sent'])),
      ...Object.fromEntries(Object.entries(pictures).map(([field, { picture }]) => [field, picture.sha256])),
    }
    // A replay is not the same as making the same request again.
    const asked = { ...request, ...hashes, replayOf: replayOf?.id }
    const formerOwners = apiKeys.formerOwnersOf(owner)
    return toIdempotency(idempotencyKey, { owner, formerOwners, request: asked, resultTtlSeconds: config.resultTtlSeconds })
  }
}

async function enqueueNew(deps: SubmitNeeds, wish: Wish, context: SubmitContext): Promise<SubmittedJob> {
  const { config, logger, store } = deps
  const { request, model, idempotency } = wish
  const { owner } = context
  const pictures = Object.fromEntries(Object.entries(wish.pictures).map(([field, { picture }]) => [field, picture]))
  const resolved = resolveInput(request, model, config, pictures)
  if ('errors' in resolved) throw refuseFields(resolved.errors)
  const record = toNewRecord(request, resolved.input, { ...context, createdAt: deps.now() })
  record.costMs = toCostMs(record.input, model)
  record.weight = deps.apiKeys.weightOf(owner)
  record.timeoutSeconds ??= config.defaultTimeoutSeconds
  if (request.deadline !== undefined) await keepDeadline(deps, record, request.deadline)

  // 3. First the pictures, then the record, then the queue: an id in the queue always has a record, and a record its pictures.
  for (const [field, taken] of Object.entries(wish.pictures)) {
    try {
      await holdInput(deps, taken, { holder: `job:${record.id}`, owner })
    } catch (error) {
      // If the store does not answer, releasing would only wait for it again; the sweep does it later.
      if (error instanceof UnusablePicture) await releaseInputs(deps, record)
      throw toRefusal(error, field, config)
    }
  }
  const created = await store.create(record, {
    maxQueued: config.maxQueuedJobs,
    maxQueuedOfOwner: config.maxQueuedJobsPerKey,
    maxQueuedMsOfOwner: config.maxQueuedMsPerKey,
    idempotency,
  })
  if (created.result !== 'created') await releaseInputs(deps, record)
  if (created.result === 'exists') {
    if (created.fingerprint !== idempotency?.fingerprint) throw new ProblemError('idempotency_mismatch')
    return { record: await replay(deps, created.jobId), replayed: true }
  }
  if (created.result !== 'created') throw await toQueueFull(deps, record, created)
  try {
    await enqueueJob(deps, record)
  } catch (error) {
    // With a key the record stays, because another request may have been told about it, and a retry or the sweep enqueues it.
    if (idempotency === undefined) await store.delete(record.id).catch(() => {})
    throw new ProblemError('queue_unavailable', undefined, { retryAfterSeconds: 5, cause: error })
  }
  const { input } = record
  const prompts = config.logPrompts ? { prompt: input.prompt, negative_prompt: input.negative_prompt } : {}
  const line = { requestId: context.requestId, jobId: record.id, model: input.model, steps: countStepsRun(input), ...prompts }
  logger.info(line, 'job queued')
  return { record: { ...record, ...freshState(countStepsRun(input)) }, replayed: false }
}

/** An error that names the limit that was reached, and says when there is likely to be room. */
async function toQueueFull(
  { config, estimator }: SubmitNeeds,
  { costMs = 0, input, owner }: NewJobRecord,
  full: Exclude<CreateResult, { result: 'created' | 'exists' }>,
): Promise<ProblemError> {
  if (full.result === 'owner_work_full') {
    const [limit, waiting] = [config.maxQueuedMsPerKey / 1000, Math.ceil(full.queuedMs / 1000)]
    const detail = `Jobs of yours of ${waiting} GPU-seconds are already waiting; with this one they would exceed MAX_QUEUED_GPU_SECONDS_PER_KEY, ${limit}.`
    const retryAfterSeconds = await estimator.secondsToBegin(input.model, owner, full.queuedMs + costMs - config.maxQueuedMsPerKey)
    return new ProblemError('queue_full', detail, { retryAfterSeconds, limit: { name: 'queued-gpu-seconds', quota: limit } })
  }
  const own = full.result === 'owner_queue_full'
  const limit = own ? { name: 'queued-jobs', quota: config.maxQueuedJobsPerKey } : { name: 'queue', quota: config.maxQueuedJobs }
  const detail = `Waiting jobs${own ? ' of yours' : ''}: ${full.queued}. With this one they would exceed ${own ? 'MAX_QUEUED_JOBS_PER_KEY' : 'MAX_QUEUED_JOBS'}, ${limit.quota}.`
  const retryAfterSeconds = await estimator.secondsToFreePlace(input.model, own ? owner : undefined)
  return new ProblemError('queue_full', detail, { retryAfterSeconds, limit })
}

/** Sets the last moment at which the job may begin, or refuses it when it cannot end in time. `deadline`: as received. */
async function keepDeadline({ estimator }: SubmitNeeds, record: NewJobRecord, deadline: number | string): Promise<void> {
  const { costMs = 0, createdAt } = record
  const deadlineAt = typeof deadline === 'number' ? createdAt + deadline * 1000 : Date.parse(deadline)
  const seconds = await estimator.secondsToEnd(record)
  const leftSeconds = (deadlineAt - createdAt) / 1000
  // Without a worker or a measured step nothing is known about the queue, so the job may wait.
  const neededSeconds = seconds ?? 0
  if (neededSeconds > leftSeconds) {
    const detail =
      leftSeconds <= 0
        ? 'The deadline of the job has passed.'
        : `The job would end in about ${neededSeconds} s; its deadline is in ${Math.max(0.1, Math.floor(leftSeconds * 10) / 10)} s.`
    // A deadline in seconds starts again with the next request, so retrying may help. An instant only comes nearer.
    const retryAfterSeconds = typeof deadline === 'number' ? Math.max(1, Math.ceil(neededSeconds - leftSeconds)) : undefined
    throw new ProblemError('deadline_unreachable', detail, { retryAfterSeconds })
  }
  const beginBy = deadlineAt - (seconds === null ? 0 : costMs)
  record.expiresAt = Math.min(record.expiresAt ?? beginBy, beginBy)
}

/** The job that an earlier request with the same key made. If it never reached the queue, because Redis or the api failed, it does now. */
async function replay(deps: SubmitNeeds, id: string): Promise<JobRecord> {
  const record = await deps.store.get(id)
  if (record === undefined || (record.completedAt !== undefined && isPastRetention(deps, record.completedAt))) {
    throw new ProblemError('expired', 'The job that this Idempotency-Key made is past its retention time.')
  }
  const missing = record.status === 'queued' && (await deps.queues.findMissing([record.input.model], [id])).length > 0
  if (missing) await enqueueJob(deps, record, { again: true })
  return record
}

function toNewRecord(
  request: Wish['request'],
  input: NewJobRecord['input'],
  { createdAt, ...context }: SubmitContext & Pick<NewJobRecord, 'createdAt'>,
): NewJobRecord {
  const id = newJobId(createdAt)
  const record: NewJobRecord = { id, owner: context.owner, createdAt, input, priority: request.priority ?? 0, requestId: context.requestId }
  if (request.webhook !== undefined) record.webhook = request.webhook
  if (request.webhook_events_filter !== undefined) record.webhookEventsFilter = request.webhook_events_filter
  if (request.preview_every !== undefined) record.previewEvery = request.preview_every
  if (request.expires_in !== undefined) record.expiresAt = createdAt + request.expires_in * 1000
  if (request.timeout !== undefined) record.timeoutSeconds = request.timeout
  if (context.dialect !== undefined) record.dialect = context.dialect
  const publicUrl = calledUrl()
  if (publicUrl !== undefined) record.publicUrl = publicUrl
  if (context.replayOf !== undefined) record.replayOf = context.replayOf
  return record
}

/** What a new record says besides its input. */
function freshState(steps: number): Omit<JobRecord, keyof NewJobRecord> {
  return {
    status: 'queued',
    inputTruncated: false,
    startedAt: undefined,
    completedAt: undefined,
    cancelRequestedAt: undefined,
    progress: { step: 0, total: steps },
    steppedAt: undefined,
    worker: undefined,
    runs: 0,
    strikes: 0,
    output: undefined,
    error: undefined,
    timings: undefined,
    provenance: undefined,
  }
}

function refuseUnknownLoras({ loras = [] }: SubmitRequest, { id, loras: known = [] }: ModelRecord): void {
  const unknown = loras.find((lora) => !known.includes(lora.id))
  if (unknown === undefined) return
  const expected = known.length === 0 ? `nothing, as ${id} has no LoRAs` : `among ${known.slice(0, 20).join(', ')}`
  const received = describeValue(unknown.id)
  throw new ProblemError('lora_not_found', `${id} has no LoRA ${received}.`, { errors: [{ field: 'loras', expected, received }] })
}
