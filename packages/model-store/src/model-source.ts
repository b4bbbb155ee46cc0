/** Where a model comes from: a repository of the hub, or a folder or file on this machine. */

export interface SourceFile {
  /** In the repository or folder, with `/` between its parts. */
  readonly path: string
  /** Bytes. */
  readonly size: number
  /** The hash of the content in hex; undefined where the source does not give it. */
  readonly sha256?: string
  /** Git's id of the content (sha1 over a header and the bytes), in hex; given for files that are not in large file storage. */
  readonly gitOid?: string
}

export interface ModelSource {
  /** Its name in sentences. */
  readonly name: string
  /** The address and version of what is fetched, for the record beside the model. */
  readonly origin: string
  list(): Promise<SourceFile[]>
  /** The complete content of a small file. */
  read(path: string): Promise<Buffer>
  /** The bytes of a file from `offset` on. The answer may begin earlier, as its own `offset` says. */
  open(file: SourceFile, offset: number, signal: AbortSignal): Promise<{ offset: number; bytes: AsyncIterable<Uint8Array> }>
  /** A copy of the file that already exists on this machine, or undefined. `isConstant`: nobody will write to it, so it may be linked. */
  findLocalCopy(file: SourceFile): Promise<{ path: string; isConstant: boolean } | undefined>
}
