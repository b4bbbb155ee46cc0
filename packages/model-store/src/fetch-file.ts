/**
 * Fetches one file: continues where an earlier attempt stopped, checks the content, and only then gives the file its name.
 *
 * Invariant: a file under its own name is complete and has the hash that its source gives. Knows nothing about a model's other files.
 */
import { constants } from 'node:fs'
import { copyFile, link, mkdir, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { toReason } from './hub-fetch.ts'
import type { ModelSource, SourceFile } from './model-source.ts'
import { PartialFile } from './partial-file.ts'
import { isOfDisk, PullError } from './pull-error.ts'

export interface FetchFileOptions {
  signal: AbortSignal
  /** Called with a number of bytes: positive when they arrive, negative when they are discarded. */
  onBytes: (count: number) => void
  onRetry: (reason: string, waitMs: number) => void
  /** How long a connection may be silent before a new one is made, in milliseconds. Default 30 000. */
  silenceMs?: number
}

/** How many attempts in a row may bring no byte at all. */
const maxIdleTries = 6
const firstWaitMs = 500
const maxWaitMs = 15_000

/** Resolves with the file's sha256, in hex. */
export async function fetchFile(source: ModelSource, file: SourceFile, target: string, options: FetchFileOptions): Promise<string> {
  const { signal, onBytes, onRetry } = options
  const partialPath = `${target}.partial`
  await mkdir(dirname(target), { recursive: true })
  let partial = await PartialFile.open(partialPath, file, signal)
  onBytes(partial.bytes)
  try {
    if (partial.bytes === 0 && (await takeLocalCopy(source, file, partialPath))) {
      await partial.close()
      partial = await PartialFile.open(partialPath, file, signal)
      onBytes(partial.bytes)
    }
    for (let wrong = 0; ;) {
      await untilWhole(source, file, partial, options)
      const digests = partial.digests()
      if (isRight(file, digests)) {
        await partial.flush()
        await rename(partialPath, target)
        return digests.sha256
      }
      onBytes(-partial.bytes)
      // A copy from this machine may be a link, which must not be written to.
      await partial.close()
      await rm(partialPath)
      if (++wrong === 2) throw new PullError(toMismatch(source, file, digests))
      partial = await PartialFile.open(partialPath, file, signal)
      onRetry(`${file.path} arrived with a hash other than the one its source gives`, 0)
    }
  } finally {
    await partial.close()
  }
}

async function untilWhole(source: ModelSource, file: SourceFile, partial: PartialFile, options: FetchFileOptions): Promise<void> {
  const { signal, onRetry } = options
  for (let idleTries = 0; partial.bytes < file.size;) {
    const before = partial.bytes
    let reason = 'the connection ended too early'
    try {
      await fetchRest(source, file, partial, options)
    } catch (error) {
      if (signal.aborted || error instanceof PullError || isOfDisk(error)) throw error
      reason = toReason(error)
    }
    if (partial.bytes >= file.size) return
    idleTries = partial.bytes > before ? 0 : idleTries + 1
    if (idleTries === maxIdleTries) throw new PullError(`Could not fetch ${file.path} of ${source.name}: ${reason}.`)
    const waitMs = Math.min(firstWaitMs * 2 ** idleTries, maxWaitMs)
    onRetry(`${file.path}: ${reason}`, waitMs)
    await sleep(waitMs, undefined, { signal })
  }
}

async function fetchRest(source: ModelSource, file: SourceFile, partial: PartialFile, options: FetchFileOptions): Promise<void> {
  const { signal, onBytes, silenceMs = 30_000 } = options
  const silent = new AbortController()
  const timer = setTimeout(() => silent.abort(new Error(`nothing arrived for ${silenceMs / 1000} s`)), silenceMs)
  try {
    const { offset, bytes } = await source.open(file, partial.bytes, AbortSignal.any([signal, silent.signal]))
    if (offset !== partial.bytes) {
      onBytes(-partial.bytes)
      await partial.restart()
    }
    for await (const chunk of bytes) {
      timer.refresh()
      if (partial.bytes + chunk.length > file.size) throw new Error(`more bytes arrived than the ${file.size} that its source gives`)
      await partial.write(chunk)
      onBytes(chunk.length)
    }
  } finally {
    clearTimeout(timer)
  }
}

async function takeLocalCopy(source: ModelSource, file: SourceFile, partialPath: string): Promise<boolean> {
  const local = await source.findLocalCopy(file)
  if (local === undefined) return false
  await rm(partialPath)
  try {
    if (local.isConstant) await link(local.path, partialPath)
    else throw new Error('it may be written into')
  } catch {
    // The file is on another disk, or stays its owner's. Blocks are shared where the file system supports it.
    await copyFile(local.path, partialPath, constants.COPYFILE_FICLONE)
  }
  return true
}

function isRight(file: SourceFile, digests: { sha256: string; gitOid: string }): boolean {
  if (file.sha256 !== undefined) return file.sha256 === digests.sha256
  return file.gitOid === undefined || file.gitOid === digests.gitOid
}

function toMismatch({ name }: ModelSource, file: SourceFile, digests: { sha256: string; gitOid: string }): string {
  const [kind, expected, got] = file.sha256 === undefined ? ['id', file.gitOid, digests.gitOid] : ['sha256', file.sha256, digests.sha256]
  return `${file.path} of ${name} arrived twice with the ${kind} ${got} instead of ${expected}: something on the way, such as a proxy, changes files.`
}
