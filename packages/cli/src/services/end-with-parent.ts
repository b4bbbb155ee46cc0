/**
 * Ends a process whose starter has gone, however that went: a wrapper that is killed with SIGKILL can tell nobody.
 *
 * Invariant: the process gets the same SIGTERM that an orderly end begins with, and SIGKILL when that has not ended it in time. Loaded by
 * `node --import` it does so for the starter that EASEL_PARENT_PID names, and takes that variable away from the processes further down.
 * Knows nothing about what runs in the process.
 */

const POLL_MS = 500
/** Longer than any service takes to hand over after its own SHUTDOWN_GRACE. */
export const HAND_OVER_MS = 15_000

/** Process id of the starter that this process was told to end with; undefined when nobody said so. */
export const starterPid = takeStarterPid()
if (starterPid !== undefined) endWithParent(starterPid)

function takeStarterPid(): number | undefined {
  const text = process.env['EASEL_PARENT_PID']
  delete process.env['EASEL_PARENT_PID']
  return text === undefined ? undefined : Number(text)
}

/** `pid`: process id of the starter. A process whose starter is gone gets another parent from the system. */
export function endWithParent(pid: number): void {
  const timer = setInterval(() => {
    if (process.ppid === pid) return
    clearInterval(timer)
    process.kill(process.pid, 'SIGTERM')
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), shutdownGraceMs() + HAND_OVER_MS).unref()
  }, POLL_MS).unref()
}

/** How long running jobs may take to finish, as the services read it: SHUTDOWN_GRACE, 30 s unless it is set. */
export function shutdownGraceMs(): number {
  const seconds = Number(process.env['SHUTDOWN_GRACE'] || 30)
  return (Number.isFinite(seconds) ? seconds : 30) * 1000
}
