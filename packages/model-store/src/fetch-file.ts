/**
 * Fetches one file: goes on where an earlier try broke off, checks what came, and only then gives the file its name.
 *
 * Invariant: a file under its own name is whole and has the hash that its source tells. Knows nothing about the other files of a model.
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
  /** Told of bytes that are there: positive as they come, negative when they are thrown away. */
  onBytes: (count: number) => void
  onRetry: (reason: string, waitMs: number) => void
  /** Longest silence of a connection before another is made, in milliseconds. Default: 30 000. */
  silenceMs?: number
}

/** Tries in a row that bring not one byte. */
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
      // A copy of this machine may be a link, which is not to be written into.
      await partial.close()
      await rm(partialPath)
      if (++wrong === 2) throw new PullError(toMismatch(source, file, digests))
      partial = await PartialFile.open(partialPath, file, signal)
      onRetry(`${file.path} came with another hash than its source tells`, 0)
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
  const timer = setTimeout(() => silent.abort(new Error(`nothing came for ${silenceMs / 1000} s`)), silenceMs)
  try {
    const { offset, bytes } = await source.open(file, partial.bytes, AbortSignal.any([signal, silent.signal]))
    if (offset !== partial.bytes) {
      onBytes(-partial.bytes)
      await partial.restart()
    }
    for await (const chunk of bytes) {
      timer.refresh()
      if (partial.bytes + chunk.length > file.size) throw new Error(`more than the ${file.size} bytes that its source tells came`)
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
    // Another disk, or a file that stays its owner's: blocks are shared where the file system can.
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
  return `${file.path} of ${name} came twice with the ${kind} ${got} instead of ${expected}: something between here and there changes files.`
}
