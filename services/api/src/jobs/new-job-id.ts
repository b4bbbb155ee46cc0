/**
 * Makes job ids: UUIDs of version 7 by the clock that all processes share, so that the ids of all replicas sort in the order of creation. Ids
 * that this process makes in one millisecond are in order too. Runs in the api.
 */
import { randomFillSync, randomInt } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'

let latest = { msecs: 0, seq: 0 }

/** Random bytes for many ids, because one system call per id would cost more than the rest of making it. */
const pool = new Uint8Array(4096)
const bytesOfId = 16
let used = pool.length

function nextRandom(): Uint8Array {
  if (used === pool.length) randomFillSync(pool)
  used %= pool.length
  return pool.subarray(used, (used += bytesOfId))
}

/** `createdAt`: ms since the epoch. */
export function newJobId(createdAt: number): string {
  // The sequence begins at random in every millisecond, so that an id cannot be guessed from another.
  latest = { msecs: createdAt, seq: createdAt === latest.msecs ? latest.seq + 1 : randomInt(2 ** 31) }
  return uuidv7({ ...latest, random: nextRandom() })
}
