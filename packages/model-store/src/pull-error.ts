/** What a pull says to whoever asked for it. */

/** A model that cannot be fetched, with a sentence that says why and what mends it. */
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

/** Whether the file system refused: no further try on the network helps. */
export function isOfDisk(error: unknown): error is NodeJS.ErrnoException {
  return Object.hasOwn(diskProblems, (error as NodeJS.ErrnoException | undefined)?.code ?? '')
}

/** `folder`: where the pull writes. */
export function toDiskError(error: NodeJS.ErrnoException, folder: string): PullError {
  const problem = diskProblems[error.code ?? ''] ?? error.message
  return new PullError(
    `Cannot write in ${folder}: ${problem}. What is there is kept; mend that, or name another folder in MODELS_DIR, and pull again.`,
  )
}
