/**
 * How many requests may hold memory at once: a request whose needs would pass the limit waits before it takes any.
 *
 * The estimate is the process after loading, plus what each admitted request holds itself (latents, embeddings, pixels), plus the runtime's
 * working memory for the largest run that may come. The last is learnt: the runtime keeps what it has once taken, so the growth of the
 * process at each run larger than all before, over the size of that run, says what a unit of size costs.
 * Invariant: one request is always admitted, whatever the estimate; until a run has been measured it is also the only one. First come,
 * first served. Without a limit nothing waits.
 * Sees the memory of this process, not a GPU's: there the limit is for the host, and the device's own errors shrink the batch.
 * Knows nothing about models. Runs in the engine process.
 */

export interface MemoryNeeds {
  /** Bytes the request itself holds. */
  readonly requestBytes: number
  /** Rows it has in a step. */
  readonly stepRows: number
  /** Size of one of them, in the unit `measure` is given. */
  readonly rowSize: number
  /** Most rows a step of this size has, whoever takes part; Infinity while that is not known. */
  readonly mostRows: number
  /** Size of its largest decoding: pixels of one picture; 0 for none. */
  readonly decodeSize: number
}

export interface MemoryStats {
  /** What is thought to be needed by all that is admitted, bytes. */
  readonly estimatedBytes: number
  /** Undefined: no limit. */
  readonly limitBytes: number | undefined
  /** Resident memory of the process, bytes. */
  readonly residentBytes: number
  readonly admitted: number
  readonly waiting: number
}

/** What the runtime has been seen to take for one kind of run. */
interface Growth {
  largest: number
  bytes: number
}

interface Waiting {
  readonly needs: MemoryNeeds
  admit(): void
}

export class MemoryAdmission {
  readonly limitBytes: number | undefined
  readonly residentBytes: () => number
  /** Bytes of the process when it had run nothing. */
  readonly baseBytes: number
  readonly growth: Record<'step' | 'decode', Growth> = { step: { largest: 0, bytes: 0 }, decode: { largest: 0, bytes: 0 } }
  readonly admitted = new Set<MemoryNeeds>()
  readonly waiting: Waiting[] = []

  /** `residentBytes`: reads the memory of the process. */
  constructor(limitBytes?: number, residentBytes: () => number = () => process.memoryUsage.rss()) {
    if (limitBytes !== undefined && !(limitBytes > 0)) throw new RangeError(`Expected memoryLimitBytes above 0, got ${limitBytes}`)
    this.limitBytes = limitBytes
    this.residentBytes = residentBytes
    this.baseBytes = residentBytes()
  }

  /** Waits until the request fits and returns what gives its share back. Rejects with the signal's reason when that comes first. */
  async admit(needs: MemoryNeeds, signal?: AbortSignal): Promise<() => void> {
    // A copy, so that equal needs of two requests count twice.
    const own = { ...needs }
    if (this.waiting.length > 0 || !this.fits(own)) await this.wait(own, signal)
    this.admitted.add(own)
    return () => {
      if (this.admitted.delete(own)) this.admitWaiting()
    }
  }

  /** Runs `work` and learns from it where it is the largest of its kind so far. */
  async measure<T>(kind: 'step' | 'decode', size: number, work: () => Promise<T>): Promise<T> {
    const growth = this.growth[kind]
    if (size <= growth.largest) return work()
    const before = this.residentBytes()
    const result = await work()
    growth.bytes += Math.max(0, this.residentBytes() - before)
    growth.largest = size
    this.admitWaiting()
    return result
  }

  get stats(): MemoryStats {
    return {
      estimatedBytes: this.estimate([...this.admitted]),
      limitBytes: this.limitBytes,
      residentBytes: this.residentBytes(),
      admitted: this.admitted.size,
      waiting: this.waiting.length,
    }
  }

  fits(needs: MemoryNeeds): boolean {
    if (this.limitBytes === undefined || this.admitted.size === 0) return true
    if (this.growth.step.largest === 0) return false
    return this.estimate([...this.admitted, needs]) <= this.limitBytes
  }

  estimate(all: readonly MemoryNeeds[]): number {
    const held = all.reduce((sum, needs) => sum + needs.requestBytes, 0)
    const working = (kind: 'step' | 'decode', size: number) => {
      const { largest, bytes } = this.growth[kind]
      // What the runtime has taken it keeps, so there is never less.
      return largest === 0 ? 0 : bytes * Math.max(1, size / largest)
    }
    const rows = all.reduce((sum, needs) => sum + needs.stepRows, 0)
    const step = Math.max(0, ...all.map(({ rowSize, mostRows }) => rowSize * Math.min(rows, mostRows)))
    const decode = Math.max(0, ...all.map(({ decodeSize }) => decodeSize))
    return this.baseBytes + held + working('step', step) + working('decode', decode)
  }

  wait(needs: MemoryNeeds, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.waiting.splice(this.waiting.indexOf(entry), 1)
        this.admitWaiting()
        reject(signal?.reason)
      }
      const entry: Waiting = {
        needs,
        admit: () => {
          signal?.removeEventListener('abort', stop)
          this.admitted.add(needs)
          resolve()
        },
      }
      this.waiting.push(entry)
      signal?.addEventListener('abort', stop, { once: true })
    })
  }

  admitWaiting(): void {
    for (let [next] = this.waiting; next !== undefined && this.fits(next.needs); [next] = this.waiting) {
      this.waiting.shift()
      next.admit()
    }
  }
}
