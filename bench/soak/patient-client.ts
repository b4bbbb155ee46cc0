/**
 * A client that behaves as the documentation asks: it sends an idempotency key, and tries again when there is no answer or a 503.
 * Invariant: a job it has submitted is never submitted twice, whatever was lost on the way.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isEnded } from '@easel/contract'
import type { Job, JobList } from '@easel/contract'

export interface PatientClient {
  submit(request: object): Promise<Job>
  get(id: string): Promise<Job>
  /** Polls until the job has ended, for at most `limitMs`, and returns the job as it was seen last. */
  untilEnded(id: string, limitMs: number): Promise<Job>
  /** Whether the cancel was accepted. */
  cancel(id: string): Promise<boolean>
  listAll(): Promise<Job[]>
  /** The bytes at an absolute URL. */
  download(url: string): Promise<Buffer>
}

const pauseMs = 100
const giveUpMs = 120_000

export function createPatientClient(base: string): PatientClient {
  /** The first answer with a status below 500. */
  const send = async (url: string, init: RequestInit = {}): Promise<Response> => {
    const startedAt = performance.now()
    for (;;) {
      try {
        const response = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) })
        // The body is read to its end here, because the connection may die in the middle of it.
        const body = await response.arrayBuffer()
        if (response.status < 500) return new Response(response.status === 204 ? null : body, { status: response.status })
      } catch (error) {
        if (performance.now() - startedAt > giveUpMs) throw error
      }
      if (performance.now() - startedAt > giveUpMs) throw new Error(`Expected an answer of ${url} within ${giveUpMs} ms, got none`)
      await sleep(pauseMs)
    }
  }
  const json = async <T>(path: string, init?: RequestInit): Promise<T> => {
    const response = await send(base + path, init)
    if (!response.ok) throw new Error(`Expected 2xx of ${path}, got ${response.status}: ${await response.text()}`)
    return (await response.json()) as T
  }
  const get = (id: string): Promise<Job> => json<Job>(`/v1/jobs/${id}`)
  return {
    submit: (request) =>
      json<Job>('/v1/jobs', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() },
        body: JSON.stringify(request),
      }),
    get,
    async untilEnded(id, limitMs) {
      const startedAt = performance.now()
      for (;;) {
        const job = await get(id)
        if (isEnded(job.status) || performance.now() - startedAt > limitMs) return job
        await sleep(pauseMs)
      }
    },
    async cancel(id) {
      return (await send(`${base}/v1/jobs/${id}/cancel`, { method: 'POST' })).ok
    },
    async listAll() {
      const jobs: Job[] = []
      for (let cursor: string | null = ''; cursor !== null;) {
        const page: JobList = await json<JobList>(`/v1/jobs?limit=100${cursor === '' ? '' : `&cursor=${cursor}`}`)
        jobs.push(...page.jobs)
        cursor = page.next
      }
      return jobs
    },
    async download(url) {
      const response = await send(url)
      return Buffer.from(await response.arrayBuffer())
    },
  }
}
