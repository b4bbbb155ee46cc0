/**
 * Makes job ids: UUIDs of version 7 by the clock that all processes share, so that the ids of all replicas sort in the order of creation. Ids
 * that this process makes in one millisecond are in order too. Runs in the api.
 */
import { randomInt } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'

let latest = { msecs: 0, seq: 0 }

/** `createdAt`: ms since the epoch. */
export function newJobId(createdAt: number): string {
  // The sequence begins at random in every millisecond: nobody is to guess an id from another.
  latest = { msecs: createdAt, seq: createdAt === latest.msecs ? latest.seq + 1 : randomInt(2 ** 31) }
  return uuidv7(latest)
}
