/**
 * A file that grows until it is whole: its bytes on disk and the hashes of them.
 *
 * Invariant: the hashes are those of what is in the file, also of what an earlier process has left there. Knows nothing about where bytes
 * come from.
 */
import { createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { SourceFile } from './model-source.ts'

export class PartialFile {
  readonly #handle: FileHandle
  readonly #size: number
  #bytes = 0
  #sha256: Hash
  #gitOid: Hash

  private constructor(handle: FileHandle, size: number) {
    this.#handle = handle
    this.#size = size
    ;[this.#sha256, this.#gitOid] = startHashes(size)
  }

  /** `path`: what is there already is kept, unless it is longer than the file. */
  static async open(path: string, { size }: SourceFile, signal: AbortSignal): Promise<PartialFile> {
    const handle = await open(path, 'a')
    const file = new PartialFile(handle, size)
    try {
      const { size: present } = await stat(path)
      if (present > size) await handle.truncate(0)
      else for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) file.#count(chunk as Buffer)
      return file
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Bytes that are there. */
  get bytes(): number {
    return this.#bytes
  }

  async write(chunk: Uint8Array): Promise<void> {
    await this.#handle.appendFile(chunk)
    this.#count(chunk)
  }

  /** Throws everything away. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0)
    this.#bytes = 0
    ;[this.#sha256, this.#gitOid] = startHashes(this.#size)
  }

  /** On disk for good, whatever happens to the machine next. */
  async flush(): Promise<void> {
    await this.#handle.sync()
  }

  digests(): { sha256: string; gitOid: string } {
    return { sha256: this.#sha256.copy().digest('hex'), gitOid: this.#gitOid.copy().digest('hex') }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }

  #count(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    this.#sha256.update(chunk)
    this.#gitOid.update(chunk)
  }
}

/** Git's id of a content begins with its length. */
function startHashes(size: number): [Hash, Hash] {
  return [createHash('sha256'), createHash('sha1').update(`blob ${size}\0`)]
}
