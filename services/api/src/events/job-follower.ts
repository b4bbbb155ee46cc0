/**
 * Wakes everything in this process that waits for news about a job: event streams and callers that wait for the end.
 *
 * Invariant: a reader marks itself as waiting before it reads, so that nothing is missed between the read and the wake-up. A wake-up is only a
 * hint to read again; a poll every few seconds makes up for one that was lost while Redis was away. Reads Redis through the job store. Knows
 * nothing about HTTP. Runs in the api.
 */
import { LRUCache } from 'lru-cache'
import { isEnded } from '@easel/contract'
import { toEndedRecord } from '@easel/job-store'
import type { JobRecord, JobStore, RedisConnection, StreamedJobEvent } from '@easel/job-store'

export interface JobFollowerOptions {
  store: JobStore
  /** A connection for pub/sub only (`use: 'worker'`). It stays open; its owner closes it. */
  subscriber: RedisConnection
  /** After this many milliseconds, 1 or more, a reader reads again without having been woken. Default 3000. */
  pollIntervalMs?: number
  /** Called on every failed read or subscription, after which the reader continues. Default none. */
  onError?: (error: unknown, about?: AboutJob) => void
}

interface WaitForEndOptions {
  timeoutMs: number
  signal?: AbortSignal
  justRead?: JobRecord
}

const jobIdLength = 36
/** Enough for all jobs that end between a caller's read of its job and its wait. */
const keptEnds = 1000

/** The fields of a log line about a job. */
interface AboutJob {
  readonly jobId: string
  /** The id of the request that made the job, once its record has been read. */
  readonly requestId?: string | undefined
}

/** Whether the text is a stream entry id in Redis's format: two decimal numbers below 2^63. */
export function isEventId(text: string): boolean {
  const match = /^(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})$/.exec(text)
  return match !== null && match.slice(1).every((part) => BigInt(part) < 2n ** 63n)
}

export class JobFollower {
  readonly #store: JobStore
  readonly #subscriber: RedisConnection
  readonly #pollIntervalMs: number
  readonly #onError: NonNullable<JobFollowerOptions['onError']>
  readonly #waiters = new Map<string, Set<JobWaiter>>()
  /** The latest jobs whose end was announced to this process, by id, each with the changed fields from the message. */
  readonly #ends = new LRUCache<string, string>({ max: keptEnds })
  /** Whether this process is subscribed to ends now. */
  #hearsEnds = false
  readonly #closing = new AbortController()

  constructor({ store, subscriber, pollIntervalMs = 3000, onError = () => {} }: JobFollowerOptions) {
    this.#store = store
    this.#subscriber = subscriber
    this.#pollIntervalMs = pollIntervalMs
    this.#onError = onError
    // Also after a reconnect, because what was published meanwhile is lost.
    subscriber.on('message', this.#onMessage).on('ready', this.#onReady).on('close', this.#onClose)
    subscriber.subscribe(store.keys.endsChannel).then(this.#onReady, onError)
  }

  /** The number of open readers. */
  get readers(): number {
    return [...this.#waiters.values()].reduce((sum, ofJob) => sum + ofJob.size, 0)
  }

  /**
   * The job's events after an entry id (default: from the beginning), including future ones. Ends after `done`, when the job does not exist,
   * when the signal aborts, and at `close()`. When the stream has expired but the job has ended, only `done` is given; a reader whose last
   * entry is `done` gets nothing more.
   */
  async *follow(id: string, { after = '0', signal }: { after?: string | undefined; signal: AbortSignal }): AsyncIterable<StreamedJobEvent> {
    using waiter = this.#addWaiter(id)
    const stopped = AbortSignal.any([signal, this.#closing.signal])
    let cursor = after
    let lookAtRecord = true
    let about: AboutJob = { jobId: id }
    while (!stopped.aborted) {
      const read = await this.#attempt(this.#store.readEvents(id, cursor), about)
      for (const event of read?.value ?? []) {
        cursor = event.id
        if (stopped.aborted) return
        yield event
        if (event.type === 'done') return
      }
      if (lookAtRecord && read !== undefined) {
        const found = await this.#attempt(this.#store.get(id), about)
        if (found !== undefined && found.value === undefined) return
        about = { jobId: id, requestId: found?.value?.requestId }
        if (found?.value !== undefined && isEnded(found.value.status)) {
          // The job may have ended after the read above.
          const rest = await this.#attempt(this.#store.readEvents(id, cursor), about)
          const last = rest?.value.length === 0 ? await this.#attempt(this.#lastWord(found.value, cursor), about) : rest
          if (last !== undefined) {
            yield* last.value
            return
          }
        }
      }
      lookAtRecord = (await waiter.wait(this.#pollIntervalMs, stopped)) === 'time'
    }
  }

  /**
   * The record once the job has ended; undefined when it has not ended in time or does not exist, or when the signal aborted. Rejects when
   * Redis fails at the end of the time. `justRead`: the record as the caller has just read it; it is not read again before the end.
   */
  async waitForEnd(id: string, { timeoutMs, signal, justRead }: WaitForEndOptions): Promise<JobRecord | undefined> {
    using waiter = this.#addWaiter(id, { forEnd: true })
    const stopped = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal])
    const deadline = performance.now() + timeoutMs
    let about: AboutJob = { jobId: id, requestId: justRead?.requestId }
    if (justRead !== undefined && this.#hearsEnds && !this.#ends.has(id)) {
      await waiter.wait(Math.min(this.#pollIntervalMs, timeoutMs), stopped)
    }
    for (;;) {
      const changes = this.#ends.peek(id) ?? ''
      if (justRead !== undefined && changes !== '') return toEndedRecord(justRead, changes)
      const leftMs = deadline - performance.now()
      const read = this.#store.get(id)
      const found = leftMs > 0 ? await this.#attempt(read, about) : { value: await read }
      if (found !== undefined && (found.value === undefined || isEnded(found.value.status))) return found.value
      if (found !== undefined) about = { jobId: id, requestId: found.value?.requestId }
      if (leftMs <= 0 || stopped.aborted) return undefined
      await waiter.wait(Math.min(this.#pollIntervalMs, leftMs), stopped)
    }
  }

  /** Ends every reader and the subscription. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#subscriber.off('message', this.#onMessage).off('ready', this.#onReady).off('close', this.#onClose)
    if (this.#subscriber.status === 'ready') await this.#attempt(this.#subscriber.unsubscribe(this.#store.keys.endsChannel))
  }

  readonly #onReady = (): void => {
    this.#hearsEnds = true
    this.#waiters.forEach((ofJob) => ofJob.forEach((waiter) => waiter.wake()))
  }

  readonly #onClose = (): void => {
    this.#hearsEnds = false
  }

  readonly #onMessage = (channel: string, message: string): void => {
    const { endsChannel, newsChannel } = this.#store.keys
    const isEnd = channel === endsChannel
    const id = message.slice(0, jobIdLength)
    if (isEnd) this.#ends.set(id, message.slice(jobIdLength))
    if (!isEnd && channel !== newsChannel(id)) return
    for (const waiter of this.#waiters.get(id) ?? []) if (isEnd || !waiter.forEnd) waiter.wake()
  }

  /** `forEnd`: woken only by the end. While there are other waiters, this process listens to the channel of the job. */
  #addWaiter(id: string, { forEnd = false } = {}): JobWaiter & Disposable {
    const waiter = { ...createWaiter(), forEnd }
    const channel = this.#store.keys.newsChannel(id)
    const ofJob = this.#waiters.get(id) ?? new Set()
    const onFailed = (error: unknown): void => this.#onError(error, { jobId: id })
    const isFollowed = (): boolean => [...ofJob].some((other) => !other.forEnd)
    if (!forEnd && !isFollowed()) this.#subscriber.subscribe(channel).then(() => waiter.wake(), onFailed)
    this.#waiters.set(id, ofJob.add(waiter))
    const dispose = (): void => {
      ofJob.delete(waiter)
      if (!forEnd && !isFollowed()) this.#subscriber.unsubscribe(channel).catch(onFailed)
      if (ofJob.size === 0 && this.#waiters.get(id) === ofJob) this.#waiters.delete(id)
    }
    return { ...waiter, [Symbol.dispose]: dispose }
  }

  /** Returns nothing when Redis failed; a later read will succeed. */
  async #attempt<T>(read: Promise<T>, about?: AboutJob): Promise<{ value: T } | undefined> {
    try {
      return { value: await read }
    } catch (error) {
      this.#onError(error, about)
      return undefined
    }
  }

  /** The remaining event for a job that has ended but whose stream has nothing after the cursor. */
  async #lastWord(record: JobRecord, cursor: string): Promise<StreamedJobEvent[]> {
    const events = await this.#store.readEvents(record.id, '0')
    const done = events.findLast((event) => event.type === 'done')
    const id = done?.id ?? `${record.completedAt ?? record.createdAt}-0`
    return isEnded(record.status) && isBefore(cursor, id) ? [{ id, type: 'done', status: record.status }] : []
  }
}

interface JobWaiter extends Waiter {
  readonly forEnd: boolean
}

interface Waiter {
  wake(): void
  /** Returns immediately if it was woken since the last call. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<'woken' | 'time' | 'aborted'>
}

function createWaiter(): Waiter {
  let woken = false
  let onWake = (): void => {}
  return {
    wake() {
      woken = true
      onWake()
    },
    async wait(timeoutMs, signal) {
      if (!woken && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const finish = (): void => {
            clearTimeout(timer)
            signal.removeEventListener('abort', finish)
            onWake = () => {}
            resolve()
          }
          const timer = setTimeout(finish, timeoutMs)
          signal.addEventListener('abort', finish)
          onWake = finish
        })
      }
      if (signal.aborted) return 'aborted'
      if (!woken) return 'time'
      woken = false
      return 'woken'
    },
  }
}

function isBefore(a: string, b: string): boolean {
  const [ams = '0', aseq = '0'] = a.split('-')
  const [bms = '0', bseq = '0'] = b.split('-')
  const difference = BigInt(ams) - BigInt(bms)
  return difference === 0n ? BigInt(aseq) < BigInt(bseq) : difference < 0n
}
