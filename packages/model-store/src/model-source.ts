/** Where a model comes from: a repository of the hub, or a folder or file of this machine. */

export interface SourceFile {
  /** In the repository or folder, with `/` between its parts. */
  readonly path: string
  /** Bytes. */
  readonly size: number
  /** Hash of the content in hex; undefined where the source does not tell it. */
  readonly sha256?: string
  /** Git's id of the content (sha1 over a header and the bytes), in hex; told for files that are not in large file storage. */
  readonly gitOid?: string
}

export interface ModelSource {
  /** What it is called in sentences. */
  readonly name: string
  /** Address and version of what is fetched, for the record beside the model. */
  readonly origin: string
  list(): Promise<SourceFile[]>
  /** The whole of a small file. */
  read(path: string): Promise<Buffer>
  /** The bytes of a file from `offset` on. It may begin earlier: `offset` of the answer says where. */
  open(file: SourceFile, offset: number, signal: AbortSignal): Promise<{ offset: number; bytes: AsyncIterable<Uint8Array> }>
  /** A copy of the file that this machine has already, or undefined. `isConstant`: nobody will ever write into it, so it may be linked. */
  findLocalCopy(file: SourceFile): Promise<{ path: string; isConstant: boolean } | undefined>
}
