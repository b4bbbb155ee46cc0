/** The errors of a pull, worded for its user. */

/** A model cannot be fetched; the message says why and how to solve it. */
export class PullError extends Error {
  override readonly name = 'PullError'
}

const diskProblems: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota of this user is used up',
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  EROFS: 'it is read-only',
}

/** Whether the file system refused, so that another attempt on the network would not help. */
export function isOfDisk(error: unknown): error is NodeJS.ErrnoException {
  return Object.hasOwn(diskProblems, (error as NodeJS.ErrnoException | undefined)?.code ?? '')
}

/** `folder`: the folder to which the pull writes. */
export function toDiskError(error: NodeJS.ErrnoException, folder: string): PullError {
  const problem = diskProblems[error.code ?? ''] ?? error.message
  return new PullError(
    `Cannot write in ${folder}: ${problem}. What has been fetched is kept; solve that, or name another folder in MODELS_DIR, and pull again.`,
  )
}
