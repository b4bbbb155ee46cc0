/**
 * Names in Redis, and job ids. The prefix is a hash tag, so that in a Redis Cluster all keys of one Easel lie in one slot and a script
 * may touch several of them.
 */

export const defaultQueuePrefix = '{easel}'

/**
 * Queue that carries the jobs of one model; no two models share one. BullMQ refuses `:` in queue names, and model ids may hold `/` or
 * anything else that a folder may be called: such a character is written as its code point in hex between two `~`.
 */
export function generateQueueName(modelId: string): string {
  return `generate-${modelId.replaceAll(/[^A-Za-z0-9._-]/gu, (character) => `~${character.codePointAt(0)?.toString(16)}~`)}`
}

export const webhookQueueName = 'webhooks'
export const maintenanceQueueName = 'maintenance'

export interface Keys {
  /** Hash: the record of a job. */
  job: (id: string) => string
  /** Bytes: where an interrupted job goes on. */
  checkpoint: (id: string) => string
  /** Stream: what happened to a job, for followers. */
  events: (id: string) => string
  /** List of JSON: attempts to deliver the webhook messages of a job, oldest first. */
  webhookAttempts: (id: string) => string
  /** String with expiry: a message of the job was sent again a moment ago. */
  webhookRedelivery: (id: string) => string
  /** String: the signing secret of webhooks that was made here because none was configured. */
  webhookSecret: string
  /** String: the job that an idempotency key made. */
  idempotency: (hash: string) => string
  /** Hash: what a model is and takes; no expiry. */
  model: (id: string) => string
  /** Set: ids of all models that ever had a record. */
  models: string
  /** Hash: the instant (ms) at which each model was first announced, by id. */
  modelsCreated: string
  /** Hash by model: the instant (ms) of its latest announcement. */
  modelsAnnounced: string
  /** String with expiry: a worker's heartbeat. */
  worker: (id: string) => string
  /** Sorted set by the instant (ms) at which the heartbeat runs out: worker ids. */
  workers: string
  /** String of JSON: an uploaded picture and whose it is. */
  upload: (id: string) => string
  /** String of JSON with expiry: who may send the bytes of an upload that was only announced. */
  uploadTicket: (ticket: string) => string
  /** Set: who holds the input picture of that hash, `job:ID` or `upload:ID`; it stays stored as long as anyone does. */
  input: (sha256: string) => string
  /** Sorted set by the instant (ms) at which it is to be looked at again: holders of input pictures that may be gone, with the hash. */
  inputHolds: string
  /** Sorted set in lexical order, which for job ids is order of creation: the jobs of one owner ('' = of everyone), all or of one status. */
  index: (owner: string, status?: string) => string
  /** Sorted set by end time (ms): ended jobs of all owners, for the retention sweep. */
  ended: string
  /** Hash: counters over all replicas (total requests, jobs by outcome). */
  counters: string
  /** Hash: the fair share of a model: its clock, and tag and weight of each owner. */
  share: (modelId: string) => string
  /** Number that changes with every change of a model's share. */
  shareVersion: (modelId: string) => string
  /** Sorted set by tag: owners with jobs of the model waiting. */
  shareOwners: (modelId: string) => string
  /** Sorted set: an owner's waiting jobs of the model, in the owner's order. */
  shareLine: (modelId: string, owner: string) => string
  /** Set: jobs of an owner that were chosen to run next and have not begun. */
  shareChosen: (modelId: string, owner: string) => string
  /** Hash: estimated milliseconds of the device of every job of the model that waits or runs. */
  shareCosts: (modelId: string) => string
  /** Hash: what an owner has used and has waiting. */
  usage: (owner: string) => string
  /** Hash: what an owner used on one day, counted from the epoch in UTC. */
  usageOfDay: (owner: string, day: number | string) => string
  /** Sorted set: owners by the milliseconds of the device that they have used. */
  usageOwners: string
  /** String with expiry: the api replica that tells the metrics of the whole service. */
  metricsLock: string
  /** Pub/sub channel: the id of a job that has ended. It only wakes readers, like the next. */
  endsChannel: string
  /** Pub/sub channel of one job: its id at every new event but the last, for whoever follows it. */
  newsChannel: (id: string) => string
  /** Pub/sub channel: the id of a model of which a job has come to wait. It only wakes workers. */
  waitingChannel: string
  /** Pub/sub channel: the id of a running job whose cancel was requested. */
  cancelChannel: string
}

export function createKeys(prefix: string = defaultQueuePrefix): Keys {
  return {
    job: (id) => `${prefix}:job:${id}`,
    checkpoint: (id) => `${prefix}:checkpoint:${id}`,
    events: (id) => `${prefix}:events:${id}`,
    webhookAttempts: (id) => `${prefix}:webhook-attempts:${id}`,
    webhookRedelivery: (id) => `${prefix}:webhook-redelivery:${id}`,
    webhookSecret: `${prefix}:webhook-secret`,
    idempotency: (hash) => `${prefix}:idem:${hash}`,
    model: (id) => `${prefix}:model:${id}`,
    models: `${prefix}:models`,
    modelsCreated: `${prefix}:models-created`,
    modelsAnnounced: `${prefix}:models-announced`,
    worker: (id) => `${prefix}:worker:${id}`,
    workers: `${prefix}:workers`,
    upload: (id) => `${prefix}:upload:${id}`,
    uploadTicket: (ticket) => `${prefix}:upload-ticket:${ticket}`,
    input: (sha256) => `${prefix}:input:${sha256}`,
    inputHolds: `${prefix}:input-holds`,
    index: (owner, status) => `${prefix}:index:${owner}${status === undefined ? '' : `:${status}`}`,
    ended: `${prefix}:ended`,
    counters: `${prefix}:counters`,
    share: (modelId) => `${prefix}:share:${modelId}`,
    shareVersion: (modelId) => `${prefix}:share:${modelId}:version`,
    shareOwners: (modelId) => `${prefix}:share:${modelId}:owners`,
    shareLine: (modelId, owner) => `${prefix}:share:${modelId}:line:${owner}`,
    shareChosen: (modelId, owner) => `${prefix}:share:${modelId}:chosen:${owner}`,
    shareCosts: (modelId) => `${prefix}:share:${modelId}:costs`,
    usage: (owner) => `${prefix}:usage:${owner}`,
    usageOfDay: (owner, day) => `${prefix}:usage:${owner}:${day}`,
    usageOwners: `${prefix}:usage-owners`,
    metricsLock: `${prefix}:metrics-lock`,
    endsChannel: `${prefix}:ends`,
    newsChannel: (id) => `${prefix}:news:${id}`,
    waitingChannel: `${prefix}:waiting`,
    cancelChannel: `${prefix}:cancel`,
  }
}

const uuid7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Whether the text is a job id: a UUID version 7 in lower case. */
export function isJobId(text: string): boolean {
  return uuid7.test(text)
}

/** The instant a job id was made, in ms since the epoch: its first 48 bits. */
export function jobIdCreatedAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}

export type ImageFormat = 'png' | 'jpeg' | 'webp'

/** Object key, and path under PUBLIC_URL, of image n (from 0) of a job. The same for every run of the job, so that a rerun overwrites. */
export function imageKey(id: string, n: number, format: ImageFormat = 'png'): string {
  return `images/${imageFileName(id, n, format)}`
}

export function imageFileName(id: string, n: number, format: ImageFormat = 'png'): string {
  return `${id}-${n}.${format === 'jpeg' ? 'jpg' : format}`
}

/** Object key of an input picture, by the hash of its bytes. */
export function inputKey(sha256: string): string {
  return `inputs/${sha256}`
}

/** Takes an image file name apart; undefined when it is not one. */
export function parseImageFileName(name: string): { id: string; n: number; format: ImageFormat } | undefined {
  const match = /^([0-9a-f-]{36})-(0|[1-9][0-9]?)\.(png|jpg|webp)$/.exec(name)
  if (match?.[1] === undefined || !isJobId(match[1])) return undefined
  return { id: match[1], n: Number(match[2]), format: match[3] === 'jpg' ? 'jpeg' : (match[3] as ImageFormat) }
}
