/**
 * How many requests may hold memory at once: a request whose needs would pass the limit waits before it takes any.
 *
 * The estimate is the process as it is, plus what each admitted request holds itself (latents, embeddings, pixels), plus what a run larger
 * than all before would take. The last is learnt from the runs: the runtime keeps what it has once taken, so how the process has grown from
 * the first run to the largest says what a unit of work costs. Only up to twice the largest is worked out from that; a request
 * that may bring a larger run waits until there has been one of half its work, or until it is alone. So the first request runs alone up to
 * its first decoding, and a burst comes in by doublings.
 *
 * Invariant: one request is always admitted, whatever the estimate. First come, first served. Without a limit nothing waits.
 * The limit is passed by a request that alone needs more, and by what an estimate was too low.
 * Sees the memory of this process, not a GPU's: there the limit is for the host, and the device's own errors shrink the batch.
 * Knows nothing about models. Runs in the engine process.
 */
import { ownMemoryBytes } from './own-memory.ts'

export interface MemoryNeeds {
  /** Bytes the request itself holds. */
  readonly requestBytes: number
  /** Rows it has in a step. */
  readonly stepRows: number
  /** Work of one of them, in the unit `measure` is given. */
  readonly rowWork: number
  /** Most rows a step of its size has as far as is known now, whoever takes part; Infinity while it is not. */
  readonly mostRows: () => number
  /** Its largest decoding: pixels of one picture; 0 for none. */
  readonly decodePixels: number
  /** Its largest encoding of a picture: pixels of one; 0 for none. */
  readonly encodePixels: number
}

export interface MemoryStats {
  /** What is thought to be needed by all that is admitted, bytes. */
  readonly estimatedBytes: number
  /** Undefined: no limit. */
  readonly limitBytes: number | undefined
  /** Memory that is the process's own, bytes. */
  readonly residentBytes: number
  readonly admitted: number
  readonly waiting: number
}

/** `encode`: of a picture. */
export type RunKind = 'step' | 'decode' | 'encode'
const RUN_KINDS = ['step', 'decode', 'encode'] as const satisfies readonly RunKind[]

/** What the runtime has been seen to take for one kind of run. */
interface Growth {
  /** Work of the first run, 0 before it, and bytes taken until a larger one came: in part what any run takes, whatever its work. */
  first: number
  firstBytes: number
  /** Work of the largest run, and all bytes taken. */
  largest: number
  bytes: number
}

/** How much larger than the largest so far a run may be for its needs to be worked out rather than tried out alone. */
const FORESEEN = 2

interface Waiting {
  readonly needs: MemoryNeeds
  admit(): void
}

export class MemoryAdmission {
  readonly limitBytes: number | undefined
  readonly residentBytes: () => number
  /** Bytes of the process when it had run nothing. */
  readonly baseBytes: number
  readonly growth: Record<RunKind, Growth> = {
    step: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
    decode: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
    encode: { first: 0, firstBytes: 0, largest: 0, bytes: 0 },
  }
  readonly admitted = new Set<MemoryNeeds>()
  readonly waiting: Waiting[] = []

  /** `residentBytes`: reads the process's own memory. */
  constructor(limitBytes?: number, residentBytes: () => number = ownMemoryBytes) {
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

  /** Runs it and learns by how much the process has grown. `work`: rows × work of a row, or pixels. */
  async measure<T>(kind: RunKind, work: number, run: () => Promise<T>): Promise<T> {
    const before = this.residentBytes()
    const result = await run()
    this.learn(this.growth[kind], work, before)
    return result
  }

  /** Runs of the same work count too: a second one may take as much again, because from then on ONNX Runtime plans its memory. */
  learn(growth: Growth, work: number, before: number): void {
    const now = this.residentBytes()
    // No more than is not explained yet: what another run or a request took meanwhile is not this run's.
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
    if (RUN_KINDS.some((kind) => largest[kind] > this.growth[kind].largest * FORESEEN)) return false
    return this.estimate(all) <= this.limitBytes
  }

  estimate(all: readonly MemoryNeeds[]): number {
    // Text encoders, caches and buffers show in nothing but the process itself. What it holds for its requests is counted with them.
    const idle = Math.max(this.learntBytes, this.residentBytes() - held(this.admitted))
    const largest = largestRuns(all)
    return RUN_KINDS.reduce((sum, kind) => sum + furtherBytes(this.growth[kind], largest[kind]), idle + held(all))
  }

  /** The process after loading and what the runtime has taken since. */
  get learntBytes(): number {
    return RUN_KINDS.reduce((sum, kind) => sum + this.growth[kind].bytes, this.baseBytes)
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

/** Work of the largest run of each kind that these requests may bring. */
function largestRuns(all: readonly MemoryNeeds[]): Record<RunKind, number> {
  const rows = all.reduce((sum, { stepRows }) => sum + stepRows, 0)
  return {
    step: Math.max(0, ...all.map(({ rowWork, mostRows }) => rowWork * Math.min(rows, mostRows()))),
    decode: Math.max(0, ...all.map(({ decodePixels }) => decodePixels)),
    encode: Math.max(0, ...all.map(({ encodePixels }) => encodePixels)),
  }
}

/** What a run of so much work would take beyond what has been taken. */
function furtherBytes({ first, firstBytes, largest, bytes }: Growth, work: number): number {
  if (work <= largest || largest === 0) return 0
  const perUnit = largest > first ? (bytes - firstBytes) / (largest - first) : bytes / largest
  return perUnit * (work - largest)
}
