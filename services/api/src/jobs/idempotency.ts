/**
 * What makes two requests the same: the caller's Idempotency-Key, within one owner, and a fingerprint of the request. Pure; the job store
 * keeps the key.
 */
import { createHash } from 'node:crypto'
import type { CreateOptions } from '@easel/job-store'
import { describeValue } from '../problems/field-errors.ts'
import { refuseFields } from '../problems/refuse-fields.ts'

/** How many seconds a key outlives the retention time of results; the sweep removes it together with its job. */
const marginSeconds = 86_400

/** Ten years: for keys of jobs that are kept for ever, which are removed when the job is deleted. */
const foreverSeconds = 315_360_000

interface IdentifyOptions {
  owner: string
  /** Names under which the owner's jobs were made before, so that a request from that time is still recognised. */
  formerOwners: readonly string[]
  request: object
  resultTtlSeconds: number
}

/** `header`: the value as received, plain or as a quoted string of structured fields. Throws `invalid_request` when it is not a key. */
export function toIdempotency(
  header: string,
  { owner, formerOwners, request, resultTtlSeconds }: IdentifyOptions,
): NonNullable<CreateOptions['idempotency']> {
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(header)
  const key = quoted?.[1]?.replaceAll(/\\(["\\])/g, '$1') ?? header
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) {
    throw refuseFields([{ field: 'Idempotency-Key', expected: '1 to 255 ASCII characters', received: describeValue(key) }])
  }
  return {
    key: sha256(`${owner}\n${key}`),
    formerKeys: formerOwners.map((former) => sha256(`${former}\n${key}`)),
    fingerprint: sha256(toCanonicalJson(request)),
    ttlSeconds: (resultTtlSeconds === 0 ? foreverSeconds : resultTtlSeconds) + marginSeconds,
  }
}

/** JSON text that does not depend on the order of fields. */
function toCanonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
