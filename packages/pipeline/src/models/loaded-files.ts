/**
 * Detects that the weight files of a model have changed since it was loaded.
 *
 * The runtime maps weight files into memory, in either mode of WEIGHTS: overwriting a file changes the pictures, and truncating it kills the
 * process. A file that is replaced or removed stays intact while it is open, but must not be opened again. Changes are detected by inode, size
 * and modification time; no content is read. Knows nothing about what the files hold. Runs in the engine process.
 */
import { stat } from 'node:fs/promises'

/** A weight file has changed since the model was loaded from it. The model has to be loaded again. */
export class ModelChangedError extends Error {
  override readonly name = 'ModelChangedError'

  constructor(file: string, got: string) {
    super(`Expected ${file} to stay as it was when the model was loaded, got ${got}; the model has to be loaded again`)
  }
}

interface Stamp {
  readonly ino: number
  readonly size: number
  readonly mtimeMs: number
}

export class LoadedFiles {
  private readonly stamps: ReadonlyMap<string, Stamp>

  private constructor(stamps: ReadonlyMap<string, Stamp>) {
    this.stamps = stamps
  }

  static async of(files: Iterable<string>): Promise<LoadedFiles> {
    const stamps = [...new Set(files)].map(async (file) => [file, await stat(file)] as const)
    return new LoadedFiles(new Map(await Promise.all(stamps)))
  }

  /** Call before the files are opened again: throws unless each is still the same. */
  async assertSame(): Promise<void> {
    await this.look((file, stamp, found) => {
      if (found === undefined) throw new ModelChangedError(file, 'no such file')
      if (found.ino !== stamp.ino) throw new ModelChangedError(file, 'another file in its place')
      assertNotWritten(file, stamp, found)
    })
  }

  /** Call while the files are open: throws if one has been written to. */
  async assertNotWritten(): Promise<void> {
    await this.look((file, stamp, found) => {
      if (found?.ino === stamp.ino) assertNotWritten(file, stamp, found)
    })
  }

  private async look(check: (file: string, stamp: Stamp, found: Stamp | undefined) => void): Promise<void> {
    await Promise.all([...this.stamps].map(async ([file, stamp]) => check(file, stamp, await stat(file).catch(() => undefined))))
  }
}

function assertNotWritten(file: string, stamp: Stamp, found: Stamp): void {
  if (found.size !== stamp.size) throw new ModelChangedError(file, `${found.size} bytes instead of ${stamp.size}`)
  if (found.mtimeMs !== stamp.mtimeMs) throw new ModelChangedError(file, 'a file that has been written to')
}
