/**
 * Names in Redis, and job ids. The prefix is a hash tag, so that in a Redis Cluster all keys of one Easel are in the same slot and a script
 * may use several of them.
 */

export const defaultQueuePrefix = '{easel}'

/**
 * The queue that carries the jobs of one model; no two models share a queue. BullMQ refuses `:` in queue names, and a model id may contain
 * `/` or any other character of a folder's name. Such a character is written as its code point in hex between two `~`.
 */
export function generateQueueName(modelId: string): string {
  return `generate-${modelId.replaceAll(/[^A-Za-z0-9._-]/gu, (character) => `~${character.codePointAt(0)?.toString(16)}~`)}`
}

export const webhookQueueName = 'webhooks'
export const maintenanceQueueName = 'maintenance'

export interface Keys {
  /** Hash: the record of a job. */
  job: (id: string) => string
  /** Bytes: where an interrupted job continues. */
  checkpoint: (id: string) => string
  /** Stream: the events of a job, for followers. */
  events: (id: string) => string
  /** List of JSON: attempts to deliver the webhook messages of a job, oldest first. */
  webhookAttempts: (id: string) => string
  /** String with expiry: a message of the job was redelivered a moment ago. */
  webhookRedelivery: (id: string) => string
  /** String: the signing secret for webhooks that was generated because none was configured. */
  webhookSecret: string
  /** String: the job that was made with an idempotency key. */
  idempotency: (hash: string) => string
  /** Hash: what a model is and accepts; no expiry. */
  model: (id: string) => string
  /** Set: the ids of all models that ever had a record. */
  models: string
  /** Hash: the instant (ms) at which each model was first announced, by id. */
  modelsCreated: string
  /** Hash by model: the instant (ms) of its latest announcement. */
  modelsAnnounced: string
  /** String with expiry: a worker's heartbeat. */
  worker: (id: string) => string
  /** Sorted set by the instant (ms) at which the heartbeat expires: worker ids. */
  workers: string
  /** JSON string: an uploaded picture and its owner. */
  upload: (id: string) => string
  /** String with expiry: as JSON, who may send the bytes of an announced upload; once it has been used, the id of the call that used it. */
  uploadTicket: (ticket: string) => string
  /** Set: the holders of the input picture with that hash, `job:ID` or `upload:ID`. The picture is stored as long as it has a holder. */
  input: (sha256: string) => string
  /** Hash of an input picture: its size in bytes, the owner of each holder, and how many holders each owner has. */
  inputOwners: (sha256: string) => string
  /** String with expiry: the input picture with that hash is being removed and can get no new holder. */
  inputRemoval: (sha256: string) => string
  /** Sorted set by the instant (ms) of the next check: holders of input pictures that may no longer exist, with the hash. */
  inputHolds: string
  /** Sorted set in lexical order, which for job ids is the order of creation: one owner's jobs ('' = everyone's), all or with one status. */
  index: (owner: string, status?: string) => string
  /** Sorted set by end time (ms): the ended jobs of all owners, for the retention sweep. */
  ended: string
  /** Hash: counters shared by all replicas (total requests, jobs by outcome). */
  counters: string
  /** Hash: the fair share of a model, with its clock, the tag and weight of each owner, and a version that changes with them. */
  share: (modelId: string) => string
  /** Sorted set by tag: the owners who have jobs of the model waiting. */
  shareOwners: (modelId: string) => string
  /** Sorted set: an owner's waiting jobs of the model, in the owner's order. */
  shareLine: (modelId: string, owner: string) => string
  /** Set: an owner's jobs that were chosen to run next and have not begun. */
  shareChosen: (modelId: string, owner: string) => string
  /** Hash: the estimated device time, in milliseconds, of every job of the model that waits or runs. */
  shareCosts: (modelId: string) => string
  /** Hash: what an owner has used and has waiting. */
  usage: (owner: string) => string
  /** Hash: what an owner used on one day, counted from the epoch in UTC. */
  usageOfDay: (owner: string, day: number | string) => string
  /** Sorted set: owners by the device time that they have used, in milliseconds. */
  usageOwners: string
  /** String with expiry: the api replica that reports the metrics of the whole service. */
  metricsLock: string
  /**
   * Pub/sub channel: the id of a job that has ended and, right after the id if the job has succeeded, a JSON list of all fields of its record that
   * change while a job lives.
   */
  endsChannel: string
  /** Pub/sub channel of one job: its id at every new event except the last. It only wakes followers. */
  newsChannel: (id: string) => string
  /** Pub/sub channel: the model of a new job that waits, and on a second line its owner, if known. It only wakes workers. */
  waitingChannel: string
  /** Pub/sub channel: the id of a running job whose cancellation was requested. */
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
    inputOwners: (sha256) => `${prefix}:input:${sha256}:owners`,
    inputRemoval: (sha256) => `${prefix}:input:${sha256}:removal`,
    inputHolds: `${prefix}:input-holds`,
    index: (owner, status) => `${prefix}:index:${owner}${status === undefined ? '' : `:${status}`}`,
    ended: `${prefix}:ended`,
    counters: `${prefix}:counters`,
    share: (modelId) => `${prefix}:share:${modelId}`,
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

/** The instant at which a job id was made, in ms since the epoch: its first 48 bits. */
export function jobIdCreatedAt(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}
