/**
 * The weight files of a model, as they were when it was loaded.
 *
 * The runtime maps weights, whichever way they are held: bytes that are written over later change the pictures, and bytes that are cut off end
 * the process. A file that is replaced or removed stays whole for whoever has it open, but must not be opened again in its place. Size, time
 * of change and inode tell; nothing is read. Knows nothing about what the files hold. Runs in the engine process.
 */
import { stat } from 'node:fs/promises'

/** A weight file is no longer what the model was loaded from. Loading the model again is the way out. */
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
  readonly stamps: ReadonlyMap<string, Stamp>

  constructor(stamps: ReadonlyMap<string, Stamp>) {
    this.stamps = stamps
  }

  static async of(files: Iterable<string>): Promise<LoadedFiles> {
    const stamps = [...new Set(files)].map(async (file) => [file, await stat(file)] as const)
    return new LoadedFiles(new Map(await Promise.all(stamps)))
  }

  /** For whoever opens the files again: throws unless each is still the same. */
  async assertSame(): Promise<void> {
    await this.look((file, stamp, found) => {
      if (found === undefined) throw new ModelChangedError(file, 'no such file')
      if (found.ino !== stamp.ino) throw new ModelChangedError(file, 'another file in its place')
      assertNotWritten(file, stamp, found)
    })
  }

  /** For whoever has the files open: throws where one has been written to. */
  async assertNotWritten(): Promise<void> {
    await this.look((file, stamp, found) => {
      if (found?.ino === stamp.ino) assertNotWritten(file, stamp, found)
    })
  }

  async look(check: (file: string, stamp: Stamp, found: Stamp | undefined) => void): Promise<void> {
    await Promise.all([...this.stamps].map(async ([file, stamp]) => check(file, stamp, await stat(file).catch(() => undefined))))
  }
}

function assertNotWritten(file: string, stamp: Stamp, found: Stamp): void {
  if (found.size !== stamp.size) throw new ModelChangedError(file, `${found.size} bytes instead of ${stamp.size}`)
  if (found.mtimeMs !== stamp.mtimeMs) throw new ModelChangedError(file, 'one that has been written to')
}
