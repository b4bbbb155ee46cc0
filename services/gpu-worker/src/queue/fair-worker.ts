/**
 * Takes jobs from BullMQ's queue in the order of the fair share. BullMQ's own loop takes whatever is in front as soon as another job may run.
 * This loop first has a job that may run here put in front (`job-lines.ts`: whose turn it is, and which places are open to whom), and then takes
 * it. BullMQ does everything else: locks and their renewal, stalled jobs, cancel signals, ends.
 *
 * While a place is open to any owner, a job that may run here is certain to be in front once the choice has been made. So the command that takes
 * it is sent right behind the choice, without waiting for an answer. When a job ends, that command is BullMQ's own, which writes the end and
 * takes the next job in one script. While only an owner with nothing running here may get a place, the answer is awaited first.
 *
 * Invariant: at most `places` jobs of one owner run here. When two workers choose at the same time, each may get the other's job; a job that
 * has no place here goes back to the front of the queue. Runs in the worker's main process.
 */
import { Worker } from 'bullmq'
import type { Job, Processor, WorkerOptions } from 'bullmq'
import { LRUCache } from 'lru-cache'
import type { Choice, GenerateJobData } from '@easel/job-store'

export interface FairWorkerOptions extends WorkerOptions {
  /** The number of places for anyone's jobs, from 1. As many again are each open to an owner who has nothing running here. */
  places: number
  /**
   * Puts the next job that may run here in front of the queue. `running`: the number of jobs that run here, by owner. `taking`: how many others
   * are being taken.
   */
  choose: (running: ReadonlyMap<string, number>, taking: number) => Promise<Choice>
  /** Whether `choose` may answer `blocked` even if fewer than `places` jobs run here. Default false. */
  ownersAreLimited?: boolean
  /** The owner of a job that another worker had chosen. */
  readOwner: (jobId: string) => Promise<string | undefined>
}

type FairJob = Job<GenerateJobData, string>
type Chosen = Extract<Choice, { result: 'chosen' }>

/** The longest wait for a message about a new job, in milliseconds, because messages may be lost and retries come without one. */
const pollMs = 1000

export class FairWorker extends Worker<GenerateJobData, string> {
  readonly #choose: FairWorkerOptions['choose']
  readonly #readOwner: FairWorkerOptions['readOwner']
  readonly #places: number
  readonly #ownersAreLimited: boolean
  /** The owners of the jobs that run here, by job id. */
  readonly #owners = new Map<string, string>()
  /**
   * The choices whose jobs have not arrived yet, by job id. With several in flight, a command may return the job of another choice. The job of a
   * choice that is pushed out was taken by another worker.
   */
  readonly #choices: LRUCache<string, Chosen>
  /** How many jobs are being taken; their owners are not known yet. */
  #taking = 0
  /** The owners of jobs that were queued while jobs were being taken and no place was open to all. */
  readonly #newcomers = new Set<string>()
  /** Whether to look again when a job has been taken. */
  #looksAgain = false
  #tokens = 0
  #isAwake = false
  #wakeUp = (): void => {}

  constructor(queueName: string, processor: Processor<GenerateJobData, string>, options: FairWorkerOptions) {
    const { places, choose, ownersAreLimited = false, readOwner, ...rest } = options
    super(queueName, processor, { ...rest, autorun: false })
    this.#places = places
    this.#choices = new LRUCache({ max: 2 * places })
    this.#choose = choose
    this.#ownersAreLimited = ownersAreLimited
    this.#readOwner = readOwner
    this.on('closing', () => this.wake())
    this.on('stalled', () => this.wake())
  }

  /**
   * Call when a job that can run here may have arrived; it looks immediately. `owner`: the owner of the job, if known; nothing happens if that
   * owner has no place here.
   */
  wake(owner?: string): void {
    if (owner !== undefined && !this.#isOpenToAll() && !this.#ownersAreLimited) {
      if (this.#taking > 0) this.#newcomers.add(owner)
      if (this.#taking > 0 || !this.#hasPlace(owner)) return
    }
    this.#isAwake = true
    this.#wakeUp()
  }

  override async pause(doNotWaitActive?: boolean): Promise<void> {
    const paused = super.pause(doNotWaitActive)
    this.wake()
    await paused
  }

  override async run(): Promise<void> {
    this.running = true
    try {
      await this.startStalledCheckTimer()
      this.lockManager.start()
      this.mainLoopRunning = this.#takeJobs()
      await this.mainLoopRunning
    } finally {
      this.running = false
    }
  }

  get #isStopping(): boolean {
    return this.closing !== undefined || this.paused
  }

  async #takeJobs(): Promise<void> {
    const busy = new Set<Promise<void>>()
    while (!this.#isStopping) {
      this.#isAwake = false
      const job = await this.#takeNext().catch((error: Error) => this.#report(error))
      if (job !== undefined) {
        const run: Promise<void> = this.#processAll(job).finally(() => busy.delete(run))
        busy.add(run)
      }
      await this.#nap()
    }
    await Promise.all(busy)
  }

  /** The next job that may run here, locked. */
  async #takeNext(): Promise<FairJob | undefined> {
    const isSure = this.#isOpenToAll()
    // Beyond the places, which owner may get one depends on the owner of the job that is being taken.
    this.#looksAgain = !isSure && this.#taking > 0
    if (this.#looksAgain) return undefined
    const choice = this.#chooseNow()
    if (!isSure && (await choice).result === 'blocked') return undefined
    this.#taking++
    try {
      // Also done when no job waits, because this puts jobs whose retry is due into the queue.
      const job = await this.moveToActive(`${this.id}:${this.#tokens++}`)
      await choice
      return await this.#accept(job)
    } finally {
      this.#endTaking()
    }
  }

  #endTaking(): void {
    this.#taking--
    if (this.#looksAgain) this.wake()
    if (this.#taking > 0) return
    const owners = [...this.#newcomers]
    this.#newcomers.clear()
    for (const owner of owners) this.wake(owner)
  }

  /** Runs a job, and then each that was taken when the one before it ended. */
  async #processAll(first: FairJob): Promise<void> {
    for (let job: FairJob | void = first; job !== undefined;) job = await this.#process(job).catch((error: Error) => this.#report(error))
  }

  /** Runs a job. Returns the one that was taken when it ended. */
  async #process(job: FairJob): Promise<FairJob | undefined> {
    let choice = undefined as Promise<Choice> | undefined
    // BullMQ asks just before it writes the end, and again if it has to write it once more.
    const takesNext = (): boolean => {
      this.#owners.delete(job.id ?? '')
      if (choice !== undefined) return true
      if (this.#isStopping || !this.#isOpenToAll()) return false
      choice = this.#chooseNow()
      this.#taking++
      return true
    }
    let next: FairJob | void = undefined
    try {
      next = await this.processJob(job, job.token ?? '', takesNext)
    } catch (error) {
      this.emit('error', error as Error)
    }
    this.#owners.delete(job.id ?? '')
    if (choice === undefined) {
      this.wake()
      return undefined
    }
    try {
      const made = await choice
      // The choice may have failed, or BullMQ may have failed to write the end.
      if (next === undefined && made.result !== 'none') this.wake()
      return await this.#accept(next)
    } finally {
      this.#endTaking()
    }
  }

  /** A choice that failed counts as `blocked`. */
  async #chooseNow(): Promise<Choice> {
    const running = new Map<string, number>()
    for (const owner of this.#owners.values()) running.set(owner, (running.get(owner) ?? 0) + 1)
    const choice = await this.#choose(running, this.#taking).catch((error: Error): Choice => {
      this.#report(error)
      return { result: 'blocked' }
    })
    if (choice.result === 'chosen') this.#choices.set(choice.id, choice)
    return choice
  }

  /** Keeps a job that was taken, or puts it back if its owner has no place here. */
  async #accept(job: FairJob | void): Promise<FairJob | undefined> {
    if (job?.id === undefined) return undefined
    const choice = this.#choices.get(job.id)
    this.#choices.delete(job.id)
    const owner = choice?.owner ?? (await this.#readOwner(job.id)) ?? ''
    if (!this.#hasPlace(owner)) {
      await job.moveToWait(job.token)
      return undefined
    }
    this.#owners.set(job.id, owner)
    if (choice === undefined || choice.more) this.wake()
    return job
  }

  /** Whether a job of any owner may run here. */
  #isOpenToAll(): boolean {
    return !this.#ownersAreLimited && this.#owners.size + this.#taking < this.#places
  }

  #hasPlace(owner: string): boolean {
    const { size } = this.#owners
    return size < this.#places || (size < 2 * this.#places && ![...this.#owners.values()].includes(owner))
  }

  /** Waits until something may have changed. */
  async #nap(): Promise<void> {
    if (this.#isAwake) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, pollMs)
      this.#wakeUp = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #report(error: Error): void {
    if (this.closing === undefined) this.emit('error', error)
  }
}
