/**
 * Distinguishes an outage of Redis, after which a caller may try again unchanged, from every other error.
 *
 * Invariant: only what ioredis itself says about a command counts. A socket error such as ECONNRESET could come from any connection: ioredis
 * never passes one to a command, and the connections of clients and of the object store have the same codes.
 */

/** The first words of the server's refusals that mean "not now": starting, failing over, out of memory, disk trouble. */
const refusals = /^(LOADING|BUSY|OOM|MISCONF|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS) /
/** ioredis gives these no code. Those from `Cluster` on come from a Redis Cluster whose nodes are away or failing over. */
const clientMessages = new RegExp(
  [
    "^(Connection is closed|Command timed out|Stream isn't writeable|Connection is in closing|connect ETIMEDOUT",
    "Cluster isn't ready|Cluster is |Failed to refresh slots cache|None of startup nodes|Too many Cluster redirections|All sentinels are unreachable)",
  ].join('|'),
)

/** Whether the error of a Redis command, or of something built on one, means that Redis cannot serve at the moment. */
export function isRedisUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error.name === 'MaxRetriesPerRequestError') return true
  if (error.name === 'ReplyError') return refusals.test(error.message)
  return clientMessages.test(error.message)
}
