/** Turns the system's refusal to let this process read a model into a sentence that says what to do. Runs wherever a model is looked for. */
import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'

/** The user of this process may not read something that belongs to a model. */
class ModelDeniedError extends Error {
  override readonly name = 'ModelDeniedError'

  constructor(variable: string, value: string, path: string, options: ErrorOptions) {
    const closed = findClosed(path)
    super(
      `${variable}: Expected ${value} to be readable by this process (of user ${process.getuid?.()}), ` +
        `got no permission for ${closed}. To give it: chmod ${closed === path ? '-R a+rX' : 'a+x'} ${closed}`,
      options,
    )
  }
}

/** Throws the error or, if permission was denied, one that says so. `variable`: the one whose value names what was to be read. */
export function explainDenied(error: unknown, variable: string, value: string): never {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof ModelDeniedError) throw at
    const { code, path } = at as NodeJS.ErrnoException
    if ((code === 'EACCES' || code === 'EPERM') && path !== undefined) throw new ModelDeniedError(variable, value, path, { cause: error })
  }
  throw error
}

/** The highest folder above a path that this process may not enter, else the path itself. */
function findClosed(path: string): string {
  let closed = path
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
    try {
      accessSync(folder, constants.X_OK)
    } catch {
      closed = folder
    }
  }
  return closed
}
