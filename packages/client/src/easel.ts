/**
 * What a program can ask of an Easel service. Every method sends one request, which is repeated until it is answered as long as that may help.
 * No method keeps any state.
 */
import type { Capabilities, CreateJobRequest, Image, Job, JobList, JobStatus, Upload, Usage } from '@easel/contract'
import { hasEnded, type EndedJob, type SucceededJob } from './ended-job.ts'
import { EaselError, JobCanceledError, JobFailedError, NotFoundError } from './errors.ts'
import { followJob, type FollowedEvent } from './follow-job.ts'
import { createImages, type Images } from './images.ts'
import { createRequestSender, type EaselRequest, type RequestBody, type RequestOptions, type RequestSender } from './request-sender.ts'
import { sleep } from './sleep.ts'

export interface EaselOptions {
  /** The address of the service, including the path before `/v1` if a proxy adds one. Default: `http://localhost:8500`. */
  baseUrl?: string | undefined
  /** The key for a service with `API_KEYS`. It is sent only to the service, never to the place where pictures are stored. Default: none. */
  apiKey?: string | undefined
  /** How many milliseconds one attempt may take to be answered; Infinity = no limit. Default: 30000. */
  timeoutMs?: number | undefined
  /** How often a request is sent again after a temporary failure (no connection, 429, 503), 0 or more. Default: 4. */
  retries?: number | undefined
  /** The function that sends requests. Default: the global `fetch`. */
  fetch?: typeof fetch | undefined
}

/** A picture to begin with: an upload, a picture of an earlier job, or text that the service accepts (an https: or data: URL, `job:ID`). */
export type InputPictureSource = string | Upload | Image

/** What picture to make; the fields are those of `POST /v1/jobs`. */
export type CreateJob = Omit<CreateJobRequest, 'image' | 'mask'> & { image?: InputPictureSource; mask?: InputPictureSource }

export interface CreateOptions extends RequestOptions {
  /**
   * Identifies the request, so that repeating it with the same key returns the same job: 1 to 255 ASCII characters. Use a key of your own, such
   * as an order number, to be safe even if your program restarts. Default: a random key for each call, so that a resent request makes one job.
   */
  idempotencyKey?: string | undefined
}

export interface ListOptions extends RequestOptions {
  /** Only jobs with this status. Default: all. */
  status?: JobStatus | undefined
  /** How many jobs are fetched at once, 1 to 100. Default: 100. */
  pageSize?: number | undefined
}

export interface PageOptions extends RequestOptions {
  /** Only jobs with this status. Default: all. */
  status?: JobStatus | undefined
  /** The most jobs on the page, 1 to 100. Default: 20. */
  limit?: number | undefined
  /** The `next` of the previous page. Default: begin with the newest jobs. */
  cursor?: string | undefined
}

/** How many seconds one request waits for the end of a job, which is less than proxies wait for an answer. */
const waitSeconds = 20
/** The pause in milliseconds before the next waiting request, for a service that answers without waiting. */
const pollMs = 1000
/** How many milliseconds sending a picture may take. */
const uploadTimeoutMs = 300_000

export class Easel {
  /** Fetches pictures. */
  readonly images: Images
  readonly #sender: RequestSender
  readonly #timeoutMs: number

  constructor({ baseUrl = 'http://localhost:8500', apiKey, timeoutMs = 30_000, retries = 4, fetch: send }: EaselOptions = {}) {
    if (!URL.canParse(baseUrl) || !/^https?:$/.test(new URL(baseUrl).protocol)) {
      throw new TypeError(`Expected baseUrl to begin with http:// or https://, got ${baseUrl}`)
    }
    assertAtLeast('timeoutMs', timeoutMs, 1)
    assertAtLeast('retries', retries, 0)
    this.#timeoutMs = timeoutMs
    this.#sender = createRequestSender({
      baseUrl: baseUrl.replace(/\/+$/, ''),
      apiKey,
      timeoutMs,
      retries,
      // Not passed on as it is, because browsers require the window as its `this`.
      fetch: send ?? ((input, init) => fetch(input, init)),
    })
    this.images = createImages(this.#sender)
  }

  /** Makes a job and does not wait for it. A request whose answer is lost is sent again and does not make a second job. */
  async create(request: CreateJob, options: CreateOptions = {}): Promise<Job> {
    return await this.#submit('v1/jobs', { ...request, ...toReferences(request) }, options)
  }

  /**
   * Makes a job and waits for its pictures. Throws a JobFailedError or a JobCanceledError when there are none. When the signal aborts, the job is
   * canceled, because no one else has its id.
   */
  async run(request: CreateJob, options: CreateOptions = {}): Promise<SucceededJob> {
    const { id } = await this.create(request, options)
    let job: EndedJob
    try {
      job = await this.wait(id, options)
    } catch (error) {
      if (options.signal?.aborted === true) void this.cancel(id).catch(() => {})
      throw error
    }
    if (job.status === 'failed') throw new JobFailedError(job)
    if (job.status === 'canceled') throw new JobCanceledError(job)
    return job
  }

  async get(id: string, options: RequestOptions = {}): Promise<Job> {
    return await this.#json({ path: toJobPath(id) }, options)
  }

  /** Waits until a job has ended in any way. `signal` limits the wait, as in `AbortSignal.timeout(60_000)`. */
  async wait(id: string, options: RequestOptions = {}): Promise<EndedJob> {
    const { timeoutMs = this.#timeoutMs } = options
    for (;;) {
      const askedAt = Date.now()
      const request = { path: toJobPath(id), headers: { Prefer: `wait=${waitSeconds}` } }
      const job = await this.#json<Job>(request, { ...options, timeoutMs: timeoutMs + waitSeconds * 1000 })
      if (hasEnded(job)) return job
      await sleep(Math.max(0, askedAt + pollMs - Date.now()), options.signal)
    }
  }

  /**
   * Everything that happens to a job, from its beginning to `done`. A broken connection is made again and continues after the last event. `retries`
   * counts failed attempts in a row, and `timeoutMs` is the longest silence; the service sends something at least every 15 s.
   */
  events(id: string, options: RequestOptions = {}): AsyncGenerator<FollowedEvent, void, undefined> {
    return followJob(this.#sender, id, { ...options, getJob: async () => await this.get(id, options) })
  }

  /** Cancels a job: a queued one immediately, a running one at its next step. Throws a ConflictError when it has already ended in another way. */
  async cancel(id: string, options: RequestOptions = {}): Promise<Job> {
    return await this.#json({ method: 'POST', path: `${toJobPath(id)}/cancel` }, options)
  }

  /** Deletes a job and its pictures, and ends it first if necessary. */
  async delete(id: string, options: RequestOptions = {}): Promise<void> {
    await this.#delete(toJobPath(id), options)
  }

  /** Makes the pictures of a succeeded job again. The new job's `replay` says whether they are the same. */
  async replay(id: string, options: CreateOptions = {}): Promise<Job> {
    return await this.#submit(`${toJobPath(id)}/replay`, {}, options)
  }

  /** All your jobs, newest first. They are fetched page by page as they are read. */
  async *list({ pageSize = 100, ...options }: ListOptions = {}): AsyncGenerator<Job, void, undefined> {
    for (let cursor: string | null | undefined; cursor !== null;) {
      const { jobs, next }: JobList = await this.listPage({ limit: pageSize, cursor, ...options })
      yield* jobs
      cursor = next
    }
  }

  /** One page of jobs, newest first. */
  async listPage({ status, limit, cursor, ...options }: PageOptions = {}): Promise<JobList> {
    const wanted = { status, limit: limit?.toString(), cursor }
    const query = new URLSearchParams(Object.entries(wanted).filter((entry): entry is [string, string] => entry[1] !== undefined))
    return await this.#json({ path: `v1/jobs?${query.toString()}` }, options)
  }

  /** Uploads a picture for later jobs, as their `image` or `mask`. By default this may take 5 minutes. */
  async upload(picture: Blob | ArrayBuffer | Uint8Array, options: RequestOptions = {}): Promise<Upload> {
    const type = picture instanceof Blob && picture.type !== '' ? picture.type : 'application/octet-stream'
    const request = { method: 'POST', path: 'v1/uploads', headers: { 'Content-Type': type }, body: picture as RequestBody }
    return await this.#json(request, { ...options, timeoutMs: options.timeoutMs ?? Math.max(uploadTimeoutMs, this.#timeoutMs) })
  }

  /** Deletes an upload. Jobs that were made with it keep the picture. */
  async deleteUpload(id: string, options: RequestOptions = {}): Promise<void> {
    await this.#delete(`v1/uploads/${encodeURIComponent(id)}`, options)
  }

  /** The models, with their defaults, their limits and the number of workers that serve each. */
  async capabilities(options: RequestOptions = {}): Promise<Capabilities> {
    return await this.#json({ path: 'v1/capabilities' }, options)
  }

  /** How much device time your key has used, and what is stored for it. */
  async usage(options: RequestOptions = {}): Promise<Usage> {
    return await this.#json({ path: 'v1/usage' }, options)
  }

  async #submit(path: string, body: object, { idempotencyKey = drawKey(), ...options }: CreateOptions): Promise<Job> {
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': idempotencyKey }
    return await this.#json({ method: 'POST', path, headers, body: JSON.stringify(body) }, options)
  }

  async #delete(path: string, options: RequestOptions): Promise<void> {
    try {
      await this.#sender.send({ method: 'DELETE', path }, async () => {}, options)
    } catch (error) {
      // An earlier attempt, whose answer was lost, has already deleted it.
      if (!(error instanceof NotFoundError) || error.attempts === 1) throw error
    }
  }

  async #json<T>(request: EaselRequest, options: RequestOptions): Promise<T> {
    return await this.#sender.send(request, readJson<T>, options)
  }
}

function toJobPath(id: string): string {
  return `v1/jobs/${encodeURIComponent(id)}`
}

function toReferences({ image, mask }: CreateJob): Pick<CreateJobRequest, 'image' | 'mask'> {
  return { image: image && toReference(image), mask: mask && toReference(mask) }
}

function toReference(picture: InputPictureSource): string {
  if (typeof picture === 'string') return picture
  return 'url' in picture ? picture.url : `upload:${picture.id}`
}

async function readJson<T>(response: Response): Promise<T> {
  const text = await response.text()
  try {
    return JSON.parse(text) as T
  } catch {
    const received = `${response.headers.get('content-type') ?? 'nothing'} from ${response.url}`
    throw new EaselError(`Expected JSON, got ${received}. Is that the address of an Easel?`, { code: 'unknown', status: response.status })
  }
}

/** Not `randomUUID`, which pages loaded by http:// do not have. */
function drawKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function assertAtLeast(name: string, value: number, least: number): void {
  if (!(value >= least)) throw new TypeError(`Expected ${name} to be a number from ${least}, got ${String(value)}`)
}
