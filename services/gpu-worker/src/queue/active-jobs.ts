/**
 * The jobs that run in this worker, and what is known about the requests that made them, for log lines. Runs in the worker's main process.
 */
import type { JobRecord } from '@easel/job-store'

export class ActiveJobs {
  /** Request ids by job id; undefined until the record has been read. */
  readonly #requestIds = new Map<string, string | undefined>()

  get count(): number {
    return this.#requestIds.size
  }

  get ids(): string[] {
    return [...this.#requestIds.keys()]
  }

  has(jobId: string): boolean {
    return this.#requestIds.has(jobId)
  }

  begin(jobId: string): void {
    this.#requestIds.set(jobId, undefined)
  }

  learn({ id, requestId }: JobRecord): void {
    this.#requestIds.set(id, requestId)
  }

  end(jobId: string): void {
    this.#requestIds.delete(jobId)
  }

  requestId(jobId: string): string | undefined {
    return this.#requestIds.get(jobId)
  }

  /** The fields of a log line about several jobs; `requestIds` has the request that made each job, in the same order. */
  toFields(jobIds: readonly string[]): { jobIds: readonly string[]; requestIds: (string | null)[] } {
    return { jobIds, requestIds: jobIds.map((jobId) => this.#requestIds.get(jobId) ?? null) }
  }
}
