/** An event of a job as stored in its Redis stream. Knows its encoding and nothing else. */
import type { JobEvent } from '@easel/contract'
import { toPairs } from './to-pairs.ts'

export type StreamedJobEvent = JobEvent & { /** Entry id of the Redis stream. */ id: string }

const numeric = new Set(['step', 'total', 'image'])

export function toEvent(id: string, fields: readonly string[]): StreamedJobEvent {
  const event: Record<string, string | number> = { id }
  for (const [name, value] of toPairs(fields)) event[name] = numeric.has(name) ? Number(value) : value
  return event as unknown as StreamedJobEvent
}
