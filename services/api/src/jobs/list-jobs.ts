/**
 * A page of an owner's jobs, newest first, for every interface that lists them. However large the jobs are, a page does not exceed its limit,
 * and this process reads few pages at a time, so that lists do not use up the memory that all requests share. Runs in the api.
 */
import pLimit from 'p-limit'
import type { LimitFunction } from 'p-limit'
import type { Job, JobStatus } from '@easel/contract'
import { isPastRetention } from '../past-retention.ts'
import type { FindNeeds } from './find-job.ts'
import { toJob } from './to-job.ts'
import type { ToJobNeeds } from './to-job.ts'

export interface ListOptions {
  /** The most jobs on the page, 1 or more. */
  limit: number
  /** The id of the last job on the previous page. Default: start with the newest job. */
  before?: string | undefined
  /** Only jobs with this status. Default: any status. */
  status?: JobStatus | undefined
}

/** The size of a page's items as JSON, in bytes, so that the whole page is at most 1 MiB. A single item may be larger. */
const maxPageBytes = 1024 * 1024 - 1024
/** How many records are read in one round trip. */
const chunkLength = 10

const reads = pLimit(2)
/** By owner: each reads one page at a time, so that no owner waits for the many pages of another. There are as many entries as owners. */
const ownReads = new Map<string, LimitFunction>()

/** `next`: the cursor for the next page; null when there is none. */
export async function listJobs<Item>(
  deps: FindNeeds & ToJobNeeds,
  owner: string,
  options: ListOptions,
  render: (job: Job) => Item,
): Promise<{ items: Item[]; next: string | null }> {
  const own = ownReads.get(owner) ?? pLimit(1)
  ownReads.set(owner, own)
  return await own(() => reads(async () => await readPage(deps, owner, options, render)))
}

async function readPage<Item>(
  deps: FindNeeds & ToJobNeeds,
  owner: string,
  { limit, before, status }: ListOptions,
  render: (job: Job) => Item,
): Promise<{ items: Item[]; next: string | null }> {
  const items: Item[] = []
  let [seen, bytes, last] = [0, 0, before]
  for (;;) {
    const records = await deps.store.list(owner, { limit: chunkLength, before: last, status })
    for (const record of records) {
      if (seen === limit) return { items, next: last ?? null }
      const isGone = record.completedAt !== undefined && isPastRetention(deps, record.completedAt)
      if (!isGone) {
        const item = render(await toJob(deps, record))
        const itemBytes = Buffer.byteLength(JSON.stringify(item))
        if (items.length > 0 && bytes + itemBytes > maxPageBytes) return { items, next: last ?? null }
        items.push(item)
        // Includes the comma after it.
        bytes += itemBytes + 1
      }
      seen++
      last = record.id
    }
    if (records.length < chunkLength) return { items, next: null }
  }
}
