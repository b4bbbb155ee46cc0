/** Tells an outage of Redis from every other error: what a caller may try again later, unchanged. */

/** What Node's sockets say when nobody is there. */
const socketCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
])
/** First words of the server's refusals that mean "not now": starting, failing over, out of memory, disk trouble. */
const refusals = /^(LOADING|BUSY|OOM|MISCONF|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS) /
/** ioredis gives these no code; from `Cluster` on, those of a Redis Cluster whose nodes are away or fail over. */
const clientMessages = new RegExp(
  [
    "^(Connection is closed|Command timed out|Stream isn't writeable|Connection is in closing|connect ETIMEDOUT",
    "Cluster isn't ready|Cluster is |Failed to refresh slots cache|None of startup nodes|Too many Cluster redirections|All sentinels are unreachable)",
  ].join('|'),
)

/** Whether the error of a Redis command, or of something built on one, says that Redis cannot serve at the moment. */
export function isRedisUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error.name === 'MaxRetriesPerRequestError') return true
  if (error.name === 'ReplyError') return refusals.test(error.message)
  const { code, syscall } = error as NodeJS.ErrnoException
  if (code !== undefined && socketCodes.has(code))
    return syscall === undefined || ['connect', 'read', 'write', 'getaddrinfo'].includes(syscall)
  return clientMessages.test(error.message)
}
