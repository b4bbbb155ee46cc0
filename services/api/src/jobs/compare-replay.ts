/** Compares a job with the one it repeats: whether the files have the same bytes, and what differs in how they were made. Pure. */
import type { Provenance, Replay, ReplayOf } from '@easel/contract'
import type { JobRecord } from '@easel/job-store'

export function compareReplay({ replayOf, output, provenance }: JobRecord): Replay | null {
  if (replayOf === undefined) return null
  if (output === undefined || provenance === undefined) return { of: replayOf.id, identical: null, note: null }
  const identical = isSameList(
    replayOf.sha256,
    output.images.map(({ sha256 }) => sha256),
  )
  return { of: replayOf.id, identical, note: describeDifferences(replayOf.provenance, provenance) }
}

/** What a new job must remember about the one it repeats; undefined when that one has no receipt. */
export function toReplayOf({ id, output, provenance }: JobRecord): ReplayOf | undefined {
  if (output === undefined || provenance === undefined) return undefined
  return { id, provenance, sha256: output.images.map(({ sha256 }) => sha256) }
}

function describeDifferences(before: Provenance, now: Provenance): string | null {
  const parts: [string, (made: Provenance) => string][] = [
    ['model', ({ model }) => model.id],
    ['hash of the model', ({ model }) => model.content_hash],
    ['runtime', ({ runtime }) => runtime],
    ['provider', ({ provider }) => provider],
    ['graphs', ({ graphs = {} }) => JSON.stringify(graphs)],
    ['LoRAs', ({ loras = [] }) => JSON.stringify(loras)],
    ['platform', ({ platform }) => platform],
    ['processor', ({ processor }) => processor],
    ['scheduler', ({ scheduler }) => toSortedJson(scheduler)],
    ['image encoder', ({ encoder }) => encoder.name],
    ['PNG compression level', ({ encoder }) => String(encoder.png_compression_level)],
    ['metadata in the files', ({ encoder }) => encoder.metadata],
  ]
  const differences = parts.flatMap(([name, of]) => (of(before) === of(now) ? [] : [`${name}: was ${of(before)}, is ${of(now)}`]))
  return differences.length === 0 ? null : `Made differently. ${differences.join('; ')}.`
}

function toSortedJson(value: Provenance['scheduler']): string {
  const config = Object.fromEntries(Object.entries(value.config).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  return `${value.class} ${JSON.stringify(config)}`
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}
