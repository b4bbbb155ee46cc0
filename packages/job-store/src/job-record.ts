/** The record of a job as stored in Redis: a hash with one string per field. Knows its encoding and nothing else. */
import { countStepsRun } from '@easel/contract'
import type {
  EndStatus,
  JobError,
  JobInput,
  JobStatus,
  Progress,
  Provenance,
  ReplayOf,
  StoredImage,
  Timings,
  WebhookEventName,
} from '@easel/contract'

import { toPairs } from './to-pairs.ts'

/** What is decided when a job is created. */
export interface NewJobRecord {
  id: string
  /** Who may see it: the name of the API key, its hash where it has no name, or `public`. */
  owner: string
  createdAt: number
  input: JobInput
  webhook?: string
  webhookEventsFilter?: readonly WebhookEventName[]
  previewEvery?: number
  priority: number
  /** The instant (ms) after which it must not be started. */
  expiresAt?: number
  timeoutSeconds?: number
  /** Its estimated cost in milliseconds of device time. Absent when it has no place in the fair share and waits in BullMQ's order. */
  costMs?: number
  /** The weight of its owner in the fair share. Default 1. */
  weight?: number
  /** The request id of the HTTP request that made it, for logs. */
  requestId?: string
  /** The api's name for the dialect through which it was made, whose shape its webhook messages have; absent for none. */
  dialect?: string
  /** The server's origin as addressed by the request that made it, without a trailing slash; absent when PUBLIC_URL is used. */
  publicUrl?: string
  /** The job that it repeats; absent for none. */
  replayOf?: ReplayOf
}

export interface JobRecord extends NewJobRecord {
  status: JobStatus
  /** Whether its prompts were cut because it ended before it was started. */
  inputTruncated: boolean
  startedAt: number | undefined
  completedAt: number | undefined
  cancelRequestedAt: number | undefined
  progress: Progress
  /** The instant (ms) at which the last step that was reported had been run. */
  steppedAt: number | undefined
  /** The id of the worker that started it last. */
  worker: string | undefined
  /** How many times a processor has started it. */
  runs: number
  /** How many times the engine crashed while running only this job. */
  strikes: number
  output: { images: StoredImage[] } | undefined
  error: JobError | undefined
  timings: Timings | undefined
  /** What the pictures were made with; present after every success. */
  provenance: Provenance | undefined
}

export interface JobEnd {
  status: EndStatus
  output?: { images: StoredImage[] }
  error?: JobError
  timings?: Timings
  provenance?: Provenance
  /** The device time that it took, in milliseconds. Default: its estimated cost in proportion to the steps it had run. */
  gpuMs?: number
  /** The size of its stored pictures in bytes. */
  bytes?: number
}

/** What determines how much work a job is, without its prompts. */
export type JobWork = Pick<JobRecord, 'id' | 'owner' | 'status' | 'progress' | 'steppedAt' | 'worker' | 'costMs' | 'weight'> & {
  input: WorkInput
}

export type WorkInput = Pick<JobInput, (typeof workFields)[number]>

/** With an input picture only the last part of the steps runs. */
const workFields = [
  'model',
  'num_inference_steps',
  'num_images_per_prompt',
  'width',
  'height',
  'guidance_scale',
  'guidance_interval',
  'image',
  'strength',
] as const

function toWork(input: JobInput): WorkInput {
  return Object.fromEntries(workFields.map((field) => [field, input[field]])) as WorkInput
}

/** The fields of the hash that `toJobWork` reads, in this order. */
export const jobWorkFields = ['id', 'status', 'step', 'total', 'stepped_at', 'work', 'worker', 'owner', 'cost_ms', 'weight'] as const

/** Also undefined for a record written by an earlier Easel, which has no such field. */
export function toJobWork([id, status, step, total, steppedAt, work, worker, owner, costMs, weight]: readonly (string | null)[]):
  | JobWork
  | undefined {
  if (id == null || work == null || owner == null) return undefined
  const progress = { step: Number(step ?? 0), total: Number(total ?? 0) }
  const at = steppedAt == null ? undefined : Number(steppedAt)
  const share = { costMs: costMs == null ? undefined : Number(costMs), weight: Number(weight ?? 1) }
  return {
    id,
    owner,
    status: status as JobStatus,
    progress,
    steppedAt: at,
    worker: worker ?? undefined,
    input: JSON.parse(work) as WorkInput,
    ...share,
  }
}

export function toHash(record: NewJobRecord): string[] {
  const fields: [string, string | number | undefined][] = [
    ['id', record.id],
    ['owner', record.owner],
    ['created_at', record.createdAt],
    ['input', JSON.stringify(record.input)],
    ['webhook', record.webhook],
    ['webhook_events_filter', record.webhookEventsFilter?.join(',')],
    ['preview_every', record.previewEvery],
    ['priority', record.priority],
    ['expires_at', record.expiresAt],
    ['timeout_seconds', record.timeoutSeconds],
    ['model', record.input.model],
    ['cost_ms', record.costMs === undefined ? undefined : Math.max(1, Math.round(record.costMs))],
    ['weight', record.weight],
    ['request_id', record.requestId],
    ['dialect', record.dialect],
    ['public_url', record.publicUrl],
    ['replay_of', record.replayOf === undefined ? undefined : JSON.stringify(record.replayOf)],
    ['total', countStepsRun(record.input)],
    ['work', JSON.stringify(toWork(record.input))],
  ]
  return fields.flatMap(([name, value]) => (value === undefined ? [] : [name, String(value)]))
}

/** The record of a job that has succeeded since it was read. `changes`: from the message about its end. */
export function toEndedRecord(record: JobRecord, changes: string): JobRecord {
  return { ...record, ...toState(Object.fromEntries(toPairs(JSON.parse(changes) as string[]))) }
}

/** What changes while the job lives. */
function toState(hash: Record<string, string>): Omit<JobRecord, keyof NewJobRecord> {
  const number = (field: string): number | undefined => (hash[field] === undefined ? undefined : Number(hash[field]))
  const json = (field: string): unknown => (hash[field] === undefined ? undefined : JSON.parse(hash[field]))
  return {
    status: hash['status'] as JobStatus,
    inputTruncated: hash['input_truncated'] !== undefined,
    startedAt: number('started_at'),
    completedAt: number('completed_at'),
    cancelRequestedAt: number('cancel_requested_at'),
    progress: { step: number('step') ?? 0, total: number('total') ?? 0 },
    steppedAt: number('stepped_at'),
    worker: hash['worker'],
    runs: number('runs') ?? 0,
    strikes: number('strikes') ?? 0,
    output: json('output') as JobRecord['output'],
    error: json('error') as JobRecord['error'],
    timings: json('timings') as JobRecord['timings'],
    provenance: json('provenance') as JobRecord['provenance'],
  }
}

export function fromHash(hash: Record<string, string>): JobRecord | undefined {
  const { id, owner, input } = hash
  if (id === undefined || owner === undefined || input === undefined) return undefined
  const number = (field: string): number | undefined => (hash[field] === undefined ? undefined : Number(hash[field]))
  const record: JobRecord = {
    id,
    owner,
    createdAt: Number(hash['created_at']),
    input: JSON.parse(input) as JobInput,
    priority: number('priority') ?? 0,
    ...toState(hash),
  }
  if (hash['webhook'] !== undefined) record.webhook = hash['webhook']
  if (hash['webhook_events_filter'] !== undefined)
    record.webhookEventsFilter = hash['webhook_events_filter'].split(',') as WebhookEventName[]
  const previewEvery = number('preview_every')
  if (previewEvery !== undefined) record.previewEvery = previewEvery
  const expiresAt = number('expires_at')
  if (expiresAt !== undefined) record.expiresAt = expiresAt
  const timeoutSeconds = number('timeout_seconds')
  if (timeoutSeconds !== undefined) record.timeoutSeconds = timeoutSeconds
  const costMs = number('cost_ms')
  if (costMs !== undefined) record.costMs = costMs
  const weight = number('weight')
  if (weight !== undefined) record.weight = weight
  if (hash['request_id'] !== undefined) record.requestId = hash['request_id']
  if (hash['dialect'] !== undefined) record.dialect = hash['dialect']
  if (hash['public_url'] !== undefined) record.publicUrl = hash['public_url']
  if (hash['replay_of'] !== undefined) record.replayOf = JSON.parse(hash['replay_of']) as ReplayOf
  return record
}
