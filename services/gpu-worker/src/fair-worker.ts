/**
 * Takes jobs from BullMQ's queue in the order of the fair share. BullMQ's own loop takes whatever is in front as soon as another job may run.
 * This one first finds out whether a job may run here, from whose turn it is and which places are open to whom (`job-lines.ts`), and takes
 * one only then. BullMQ does everything else: locks and their renewal, stalled jobs, cancel signals, ends.
 *
 * Invariant: at most `places` jobs of one owner run here. When two workers choose at the same time, each may get the other's job; a job that
 * has no place here goes back to the front of the queue. Runs in the worker's main process.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'bullmq'
import type { Job, Processor, WorkerOptions } from 'bullmq'
import type { Choice, GenerateJobData } from '@easel/job-store'

export interface FairWorkerOptions extends WorkerOptions {
  /** The number of places for anyone's jobs, from 1. As many again are each open to an owner who has nothing running here. */
  places: number
  /** Puts the next job that may run here in front of the queue. `running`: the number of jobs that run here, by owner. */
  choose: (running: ReadonlyMap<string, number>) => Promise<Choice>
  /** The owner of a job that another worker had chosen. */
  readOwner: (jobId: string) => Promise<string | undefined>
}

/** The longest wait for a message about a new job, in milliseconds, because messages may be lost and retries come without one. */
const pollMs = 1000

export class FairWorker extends Worker<GenerateJobData, string> {
  readonly #choose: FairWorkerOptions['choose']
  readonly #readOwner: FairWorkerOptions['readOwner']
  readonly #places: number
  /** The owners of the jobs that run here, by job id. */
  readonly #owners = new Map<string, string>()
  #taken = 0
  #isAwake = false
  #wakeUp = (): void => {}

  constructor(queueName: string, processor: Processor<GenerateJobData, string>, options: FairWorkerOptions) {
    const { places, choose, readOwner, ...rest } = options
    super(queueName, processor, { ...rest, autorun: false })
    this.#places = places
    this.#choose = choose
    this.#readOwner = readOwner
    this.on('closing', () => this.wake())
    this.on('stalled', () => this.wake())
  }

  /** Call when a job may have come that can run here; it looks immediately. */
  wake(): void {
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

  async #takeJobs(): Promise<void> {
    const busy = new Set<Promise<void>>()
    while (this.closing === undefined && !this.paused) {
      this.#isAwake = false
      const job = await this.#takeNext().catch((error: Error) => {
        if (this.closing === undefined) this.emit('error', error)
      })
      if (job === undefined) await this.#nap()
      else {
        const run: Promise<void> = this.#process(job).finally(() => busy.delete(run))
        busy.add(run)
      }
    }
    await Promise.all(busy)
  }

  /** The next job that may run here, locked. */
  async #takeNext(): Promise<Job<GenerateJobData, string> | undefined> {
    const choice = await this.#choose(this.#countOwners())
    if (choice.result === 'blocked') return undefined
    const token = `${this.id}:${this.#taken++}`
    // Also done when none waits, because this puts jobs whose retry is due into the queue.
    const job = await this.moveToActive(token)
    if (job?.id === undefined) return undefined
    const owner = choice.result === 'chosen' && choice.id === job.id ? choice.owner : ((await this.#readOwner(job.id)) ?? '')
    if (!this.#hasPlace(owner)) {
      await job.moveToWait(token)
      return undefined
    }
    this.#owners.set(job.id, owner)
    return job
  }

  async #process(job: Job<GenerateJobData, string>): Promise<void> {
    try {
      // Never fetches the next job in the same script, because that could be any job.
      await this.processJob(job, job.token ?? '', () => false)
    } catch (error) {
      this.emit('error', error as Error)
    } finally {
      this.#owners.delete(job.id ?? '')
      this.wake()
    }
  }

  #countOwners(): Map<string, number> {
    const counts = new Map<string, number>()
    for (const owner of this.#owners.values()) counts.set(owner, (counts.get(owner) ?? 0) + 1)
    return counts
  }

  #hasPlace(owner: string): boolean {
    const { size } = this.#owners
    return size < this.#places || (size < 2 * this.#places && !this.#countOwners().has(owner))
  }

  /** Waits until something may have changed. */
  async #nap(): Promise<void> {
    if (this.#isAwake) return
    const timer = new AbortController()
    const woken = new Promise<void>((resolve) => {
      this.#wakeUp = resolve
    })
    await Promise.race([woken, sleep(pollMs, undefined, { signal: timer.signal }).catch(() => {})])
    timer.abort()
  }
}
