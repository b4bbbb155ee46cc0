/**
 * Ends a process whose starter no longer exists, however the starter ended: one that is killed with SIGKILL cannot notify its children.
 *
 * Invariant: the process gets the same SIGTERM as in a clean shutdown, and SIGKILL when that has not ended it in time. Loaded by
 * `node --import` it watches the starter that EASEL_PARENT_PID names, and removes that variable from the environment of further child processes.
 * Knows nothing about what runs in the process.
 */

const pollMs = 500
/** Longer than any service needs to hand over after its own SHUTDOWN_GRACE. */
export const handOverMs = 15_000

/** The process id of the starter with which this process is to end; undefined when none was given. */
export const starterPid = takeStarterPid()
if (starterPid !== undefined) endWithParent(starterPid)

function takeStarterPid(): number | undefined {
  const text = process.env['EASEL_PARENT_PID']
  delete process.env['EASEL_PARENT_PID']
  return text === undefined ? undefined : Number(text)
}

/** `pid`: the process id of the starter. When the starter is gone, the system gives its processes another parent. */
export function endWithParent(pid: number): void {
  const timer = setInterval(() => {
    if (process.ppid === pid) return
    clearInterval(timer)
    process.kill(process.pid, 'SIGTERM')
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), shutdownGraceMs() + handOverMs).unref()
  }, pollMs).unref()
}

/** How long running jobs may take to finish, as the services read it: SHUTDOWN_GRACE, 30 s unless it is set. */
export function shutdownGraceMs(): number {
  const seconds = Number(process.env['SHUTDOWN_GRACE'] || 30)
  return (Number.isFinite(seconds) ? seconds : 30) * 1000
}
