/**
 * How many requests may hold memory at once: a request that would exceed the limit waits before it takes any.
 *
 * The estimate is the present size of the process, plus what each admitted request holds itself (latents, embeddings, pixels), plus what a run larger
 * than any before would take. The last part is learnt from the runs: the runtime keeps the memory it has once taken, so the growth of the
 * process from the first run to the largest shows what a unit of work costs. That is extrapolated only up to twice the largest run. A
 * request that may bring a larger one waits until a run of half its work has happened, or until it is alone. So the first request runs alone
 * up to its first decoding, and a burst of requests is admitted in doublings.
 *
 * Invariant: one request is always admitted, whatever the estimate. First come, first served. Without a limit nothing waits.
 * The limit can be exceeded by a request that needs more on its own, and by the error of an estimate that was too low.
 * Sees the memory of this process, not a GPU's: on a GPU the limit is for the host, and the device's own errors shrink the batch.
 * Knows nothing about models. Runs in the engine process.
 */
import { ownMemoryBytes } from './own-memory.ts'

export interface MemoryNeeds {
  /** The bytes that the request itself holds. */
  readonly requestBytes: number
  /** The number of its rows in a step. */
  readonly stepRows: number
  /** The work of one row, in the unit that `measure` gets. */
  readonly rowWork: number
  /** The most rows that a step of its size may have, whatever the requests in it, as far as is known now; Infinity while it is not known. */
  readonly mostRows: () => number
  /** Its largest decoding, in pixels of one picture; 0 for none. */
  readonly decodePixels: number
  /** Its largest encoding of a picture, in pixels; 0 for none. */
  readonly encodePixels: number
}

export interface MemoryStats {
  /** The estimated need of all admitted requests, in bytes. */
  readonly estimatedBytes: number
  /** In bytes; undefined for no limit. */
  readonly limitBytes: number | undefined
  /** The process's own memory, in bytes. */
  readonly residentBytes: number
  readonly admitted: number
  readonly waiting: number
}

/** `encode` is the encoding of a picture. */
export type RunKind = 'step' | 'decode' | 'encode'
const runKinds = ['step', 'decode', 'encode'] as const satisfies readonly RunKind[]

/** What the runtime has been observed to take for one kind of run. */
interface Growth {
  /** The work of the first run, 0 before it, and the bytes taken until a larger one came. Some of these any run takes, whatever its work. */
  first: number
  firstBytes: number
  /** The work of the largest run, and all bytes taken. */
  largest: number
  bytes: number
}

/** A run's needs are extrapolated up to this factor of the largest run so far; a larger run has to be tried alone. */
const foreseen = 2

interface Waiting {
  readonly needs: MemoryNeeds
  admit(): void
}

export class MemoryAdmission {
  readonly limitBytes: number | undefined
  readonly residentBytes: () => number
  /** The size of the process in bytes before it had run anything. */
  readonly baseBytes: number
  readonly growth: Record<RunKind, Growth> = {
    step: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
    decode: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
    encode: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
  }
  readonly admitted = new Set<MemoryNeeds>()
  readonly waiting: Waiting[] = []

  /** `residentBytes` reads the process's own memory. */
  constructor(limitBytes?: number, residentBytes: () => number = ownMemoryBytes) {
    if (limitBytes !== undefined && !(limitBytes > 0)) throw new RangeError(`Expected memoryLimitBytes above 0, got ${limitBytes}`)
    this.limitBytes = limitBytes
    this.residentBytes = residentBytes
    this.baseBytes = residentBytes()
  }

  /** Waits until the request fits and returns a function that gives its share back. Rejects with the signal's reason if it aborts first. */
  async admit(needs: MemoryNeeds, signal?: AbortSignal): Promise<() => void> {
    // A copy, so that two requests that pass the same object count twice.
    const own = { ...needs }
    if (this.waiting.length > 0 || !this.fits(own)) await this.wait(own, signal)
    this.admitted.add(own)
    return () => {
      if (this.admitted.delete(own)) this.admitWaiting()
    }
  }

  /** Runs `run` and learns by how much the process has grown. `work`: rows × the work of a row, or pixels. */
  async measure<T>(kind: RunKind, work: number, run: () => Promise<T>): Promise<T> {
    const before = this.residentBytes()
    const result = await run()
    this.learn(this.growth[kind], work, before)
    return result
  }

  /** Runs of equal work count too: the second may take as much again, because from then on ONNX Runtime plans its memory. */
  learn(growth: Growth, work: number, before: number): void {
    const now = this.residentBytes()
    // At most the growth that has no other explanation: what another run or a request took meanwhile does not belong to this run.
    const grown = Math.max(0, Math.min(now - before, now - this.learntBytes - held(this.admitted)))
    const isLarger = work > growth.largest
    growth.bytes += grown
    growth.largest = Math.max(growth.largest, work)
    if (growth.first === 0) growth.first = work
    if (growth.largest === growth.first) growth.firstBytes = growth.bytes
    if (isLarger) this.admitWaiting()
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
    const all = [...this.admitted, needs]
    const largest = largestRuns(all)
    if (runKinds.some((kind) => largest[kind] > this.growth[kind].largest * foreseen)) return false
    return this.estimate(all) <= this.limitBytes
  }

  estimate(all: readonly MemoryNeeds[]): number {
    // Text encoders, caches and buffers show only in the size of the process. What it holds for requests is counted with the requests.
    const idle = Math.max(this.learntBytes, this.residentBytes() - held(this.admitted))
    const largest = largestRuns(all)
    return runKinds.reduce((sum, kind) => sum + furtherBytes(this.growth[kind], largest[kind]), idle + held(all))
  }

  /** The process as it was after loading, plus what the runtime has taken since. */
  get learntBytes(): number {
    return runKinds.reduce((sum, kind) => sum + this.growth[kind].bytes, this.baseBytes)
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

function held(all: Iterable<MemoryNeeds>): number {
  let bytes = 0
  for (const { requestBytes } of all) bytes += requestBytes
  return bytes
}

/** The work of the largest run of each kind that these requests may bring. */
function largestRuns(all: readonly MemoryNeeds[]): Record<RunKind, number> {
  const rows = all.reduce((sum, { stepRows }) => sum + stepRows, 0)
  return {
    step: Math.max(0, ...all.map(({ rowWork, mostRows }) => rowWork * Math.min(rows, mostRows()))),
    decode: Math.max(0, ...all.map(({ decodePixels }) => decodePixels)),
    encode: Math.max(0, ...all.map(({ encodePixels }) => encodePixels)),
  }
}

/** What a run with this much work would take beyond what has been taken already. */
function furtherBytes({ first, firstBytes, largest, bytes }: Growth, work: number): number {
  if (work <= largest || largest === 0) return 0
  const perUnit = largest > first ? (bytes - firstBytes) / (largest - first) : bytes / largest
  return perUnit * (work - largest)
}
