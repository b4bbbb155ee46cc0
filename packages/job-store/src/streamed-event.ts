/** An event of a job as stored in its Redis stream. Knows its encoding and nothing else. */
import type { JobEvent } from '@easel/contract'

export type StreamedJobEvent = JobEvent & { /** Entry id of the Redis stream. */ id: string }

const numeric = new Set(['step', 'total', 'image'])

export function toEvent(id: string, fields: readonly string[]): StreamedJobEvent {
  const event: Record<string, string | number> = { id }
  for (const [name, value] of toPairs(fields)) event[name] = numeric.has(name) ? Number(value) : value
  return event as unknown as StreamedJobEvent
}

/** Names and values in turn, which is how Redis returns hashes inside other replies. */
export function toPairs(list: readonly string[]): [string, string][] {
  return Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i] ?? '', list[2 * i + 1] ?? ''])
}
