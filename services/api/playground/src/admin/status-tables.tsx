/** The tables of the status page, each with its columns. They show what they are given and read nothing. */
import type { VNode } from 'preact'
import type { Failure, ModelStatus, OwnerShare, ShareStatus, WaitingWebhook, WorkerStatus } from '@easel/contract'
import { DataTable } from './data-table.tsx'
import type { Column } from './data-table.tsx'
import { toCount, toDistance, toDuration, toMemory } from './words.ts'

const number = (value: number): string => value.toLocaleString('en', { maximumFractionDigits: 1 })
const none = '–'

/** Columns with instants need the time of the reading. */
type At<Props> = Props & { readAt: string }

export function ModelTable({ models }: At<{ models: readonly ModelStatus[] }>): VNode {
  const columns: Column<ModelStatus>[] = [
    { head: 'Model', cell: ({ id, default: isDefault }) => (isDefault ? `${id} (default)` : id) },
    { head: 'Workers', cell: ({ workers }) => (workers === 0 ? <strong class="wrong">none</strong> : workers), numeric: true },
    { head: 'Waiting', cell: ({ waiting }) => number(waiting), numeric: true },
    { head: 'Running', cell: ({ active }) => number(active), numeric: true },
    {
      head: 'Oldest job',
      cell: ({ waiting, oldest_age_seconds }) => (waiting === 0 ? none : toDuration(oldest_age_seconds)),
      numeric: true,
    },
    { head: 'Waiting work', cell: ({ gpu_seconds_queued }) => toDuration(gpu_seconds_queued), numeric: true },
    { head: 'Step time', cell: ({ step_ms }) => (step_ms === null ? none : `${number(step_ms)} ms`), numeric: true },
  ]
  return <DataTable labelledBy="models" columns={columns} rows={models} keyOf={({ id }) => id} />
}

export function WorkerTable({ workers, readAt }: At<{ workers: readonly WorkerStatus[] }>): VNode {
  const columns: Column<WorkerStatus>[] = [
    { head: 'Worker', cell: ({ id }) => <code>{id}</code> },
    { head: 'State', cell: (worker) => <WorkerState worker={worker} /> },
    { head: 'Model', cell: ({ model }) => model },
    { head: 'Device', cell: ({ device }) => device },
    { head: 'Memory', cell: toWorkerMemory, numeric: true },
    { head: 'Jobs', cell: ({ active, concurrency }) => `${active} of ${concurrency}`, numeric: true },
    { head: 'Rows per step', cell: toRows, numeric: true },
    { head: 'Last heartbeat', cell: ({ heard_at }) => toDistance(heard_at, readAt), numeric: true },
  ]
  return <DataTable labelledBy="workers" columns={columns} rows={workers} keyOf={({ id }) => id} />
}

function WorkerState({ worker: { ready, memory_waiting, memory_shortages } }: { worker: WorkerStatus }): VNode {
  return (
    <>
      {ready ? 'takes jobs' : <strong class="wrong">takes no jobs: loading its model, or stopping</strong>}
      {memory_waiting > 0 && <div>{toCount(memory_waiting, 'job waits', 'jobs wait')} for memory</div>}
      {memory_shortages > 0 && <div>memory ran out {toCount(memory_shortages, 'time')}</div>}
    </>
  )
}

function toWorkerMemory({ engine_memory_bytes, gpu }: WorkerStatus): string {
  const engine = engine_memory_bytes === 0 ? none : toMemory(engine_memory_bytes)
  return gpu === undefined ? engine : `${engine}, GPU ${gpu.memory_allocated_gb.toFixed(1)} of ${gpu.memory_reserved_gb.toFixed(1)} GB`
}

function toRows({ rows_per_step, waiting_rows }: WorkerStatus): string {
  if (rows_per_step === null) return none
  return waiting_rows === 0 ? number(rows_per_step) : `${number(rows_per_step)}, ${waiting_rows} waiting`
}

export function FailureTable({ failures, readAt }: At<{ failures: readonly Failure[] }>): VNode {
  const columns: Column<Failure>[] = [
    {
      head: 'Why',
      cell: ({ code, message }) => (
        <>
          {message} <code>{code}</code>
        </>
      ),
    },
    { head: 'Jobs', cell: ({ count }) => count, numeric: true },
    { head: 'Retryable', cell: ({ retryable }) => (retryable ? 'yes' : 'no') },
    { head: 'Last', cell: ({ latest }) => toDistance(latest.ended_at, readAt), numeric: true },
    {
      head: 'Job',
      cell: ({ latest: { job_id, model, owner } }) => (
        <>
          <code>{job_id}</code> <span class="quiet">{[owner, model].filter((name) => name !== '').join(', ')}</span>
        </>
      ),
    },
  ]
  return <DataTable labelledBy="failures" columns={columns} rows={failures} keyOf={({ code, message }) => code + message} />
}

export function ShareTable({ shares: { listed, others_gpu_seconds } }: { shares: ShareStatus }): VNode {
  const all = listed.reduce((sum, { gpu_seconds }) => sum + gpu_seconds, others_gpu_seconds)
  const toPart = (seconds: number): string => (all === 0 ? none : `${toDuration(seconds)} (${Math.round((100 * seconds) / all)} %)`)
  const columns: Column<OwnerShare>[] = [
    { head: 'Key', cell: ({ owner }) => (owner === 'public' ? 'public (without a key)' : owner) },
    { head: 'Weight', cell: ({ weight }) => number(weight), numeric: true },
    { head: 'Running', cell: ({ running }) => number(running), numeric: true },
    { head: 'Waiting', cell: ({ waiting }) => number(waiting), numeric: true },
    { head: 'Waiting work', cell: ({ gpu_seconds_queued }) => toDuration(gpu_seconds_queued), numeric: true },
    { head: 'Used today', cell: ({ gpu_seconds_today }) => toDuration(gpu_seconds_today), numeric: true },
    { head: 'Used in total', cell: ({ gpu_seconds }) => toPart(gpu_seconds), numeric: true },
  ]
  return (
    <>
      <DataTable labelledBy="shares" columns={columns} rows={listed} keyOf={({ owner }) => owner} />
      {others_gpu_seconds > 0 && <p class="quiet">All others together: {toPart(others_gpu_seconds)}.</p>}
    </>
  )
}

export function WebhookTable({ messages, readAt }: At<{ messages: readonly WaitingWebhook[] }>): VNode {
  const columns: Column<WaitingWebhook>[] = [
    { head: 'Receiver', cell: ({ receiver }) => receiver ?? none },
    { head: 'Event', cell: ({ event }) => event },
    { head: 'Failed attempts', cell: ({ attempts }) => attempts, numeric: true },
    { head: 'Why', cell: ({ reason }) => reason ?? none },
    {
      head: 'Next attempt',
      cell: ({ next_attempt_at: at }) => (at === null ? 'as soon as possible' : toDistance(at, readAt)),
      numeric: true,
    },
    {
      head: 'Job',
      cell: ({ job_id, owner }) => (
        <>
          <code>{job_id}</code> <span class="quiet">{owner ?? ''}</span>
        </>
      ),
    },
  ]
  return <DataTable labelledBy="webhooks" columns={columns} rows={messages} keyOf={({ job_id, event }) => job_id + event} />
}
