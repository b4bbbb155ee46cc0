/**
 * Pulls a model into the models directory.
 *
 * Invariant: the model appears under its name only when it is complete and checked. Until then it grows in `.pulls/`, where a later pull
 * continues, however this one ended. Only one process at a time pulls a model, among all machines that share the directory.
 */
import { existsSync } from 'node:fs'
import { link, mkdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pLimit from 'p-limit'
import { lock } from 'proper-lockfile'
import { describeUnknownLayout } from '@easel/pipeline'
import { makeFolder } from '@easel/process/make-folder'
import { fetchFile } from './fetch-file.ts'
import { listFolder, toSourcePath } from './local-source.ts'
import { readPullRecord, writePullRecord } from './model-record.ts'
import type { PullRecord } from './model-record.ts'
import type { ModelSource, SourceFile } from './model-source.ts'
import { isOfDisk, PullError, toDiskError } from './pull-error.ts'
import { selectFiles } from './select-files.ts'

export type PullEvent =
  /** Called when another process pulls the same model and this one waits for it. */
  | { type: 'waiting' }
  | { type: 'planned'; files: number; totalBytes: number }
  | { type: 'progress'; doneBytes: number; totalBytes: number }
  | { type: 'retry'; reason: string; waitMs: number }

export interface PullOptions {
  /** Opened once this process is the one that pulls. */
  openSource: () => Promise<ModelSource>
  /** The directory of models. */
  modelsDir: string
  /** The name of the model's folder (or file) under `modelsDir`; may contain a `/`. */
  folder: string
  /** Whether to keep an existing model even if its source has changed. Default false. */
  onlyIfMissing?: boolean
  /** The precision variant of the weights, such as `fp16`. Default: the one without a name. */
  variant?: string
  /** Whether to fetch weights too. The other files are what a model in a single .safetensors file lacks. Default true. */
  weights?: boolean
  /** How many files to fetch at once. Default 4. */
  concurrency?: number
  /** How long a connection may be silent before a new one is made, in milliseconds. Default 30 000. */
  silenceMs?: number
  signal: AbortSignal
  onEvent: (event: PullEvent) => void
}

export interface PulledModel {
  /** The absolute path of the model. */
  path: string
  totalBytes: number
  /** Whether nothing had to be fetched. */
  wasThere: boolean
}

export const pullsFolder = '.pulls'
const lockOptions = { stale: 6000, update: 1500 }
const lockRetryMs = 500

export async function pullModel(options: PullOptions): Promise<PulledModel> {
  const { modelsDir, folder, signal } = options
  const staging = toStagingFolder(modelsDir, folder)
  const lost = new AbortController()
  let release: () => Promise<void> = async () => {}
  try {
    await makeFolder(staging)
    release = await becomeOnlyPuller(staging, options, (error) => lost.abort(error))
    return await pullAlone(staging, { ...options, signal: AbortSignal.any([signal, lost.signal]) })
  } catch (error) {
    throw isOfDisk(error) ? toDiskError(error, modelsDir) : error
  } finally {
    await release().catch(() => {})
  }
}

export function toStagingFolder(modelsDir: string, folder: string): string {
  return join(modelsDir, pullsFolder, folder.replaceAll('/', '--'))
}

/** Waits while another process pulls the same model. The lock of a killed process expires after `stale`. */
async function becomeOnlyPuller(staging: string, { signal, onEvent }: PullOptions, onCompromised: (error: Error) => void) {
  for (let waited = false; ; waited = true) {
    try {
      return await lock(staging, { ...lockOptions, realpath: false, lockfilePath: `${staging}.lock`, onCompromised })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw error
    }
    if (!waited) onEvent({ type: 'waiting' })
    await sleep(lockRetryMs, undefined, { signal })
    await mkdir(staging, { recursive: true })
  }
}

async function pullAlone(staging: string, options: PullOptions): Promise<PulledModel> {
  const { modelsDir, folder, onlyIfMissing = false, onEvent } = options
  const path = join(modelsDir, folder)
  const wasThere = async (totalBytes: number): Promise<PulledModel> => {
    await rm(staging, { recursive: true, force: true })
    return { path, totalBytes, wasThere: true }
  }
  if (onlyIfMissing && existsSync(path)) return await wasThere(0)
  await mkdir(staging, { recursive: true })

  const source = await options.openSource()
  const files = await chooseFiles(source, options)
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  const published = await readPullRecord(path)
  if (published === undefined && existsSync(path))
    throw new PullError(
      `There is already something at ${path} that was not pulled: give it another name, or remove it with "easel rm ${folder}".`,
    )
  const present = published === undefined ? new Set<string>() : await findPresent(path, published, files)
  if (files.every((file) => present.has(file.path))) return await wasThere(totalBytes)
  // Unchanged files are taken from the existing version.
  for (const unchanged of present) await linkFile(join(path, unchanged), join(staging, unchanged))

  const record: PullRecord = { origin: source.origin, pulled_at: new Date().toISOString(), files: {} }
  const missing: SourceFile[] = []
  const earlier = await readPullRecord(staging)
  const staged = earlier === undefined ? new Set<string>() : await findPresent(staging, earlier, files)
  for (const file of files) {
    const known = present.has(file.path) ? published?.files[file.path] : staged.has(file.path) ? earlier?.files[file.path] : undefined
    if (known === undefined) missing.push(file)
    else record.files[file.path] = known
  }
  await assertRoom(staging, missing, source)
  onEvent({ type: 'planned', files: files.length, totalBytes })
  await fetchMissing(staging, { source, missing, record, totalBytes }, options)
  await publish(staging, path, record)
  return { path, totalBytes, wasThere: false }
}

interface PullPlan {
  source: ModelSource
  missing: readonly SourceFile[]
  /** Gets an entry for each file once it is complete. */
  record: PullRecord
  totalBytes: number
}

/** Fetches several files at a time; the first failure ends them all. */
async function fetchMissing(staging: string, { source, missing, record, totalBytes }: PullPlan, options: PullOptions): Promise<void> {
  const { concurrency = 4, silenceMs, signal, onEvent } = options
  const failed = new AbortController()
  const limit = pLimit(concurrency)
  let doneBytes = totalBytes - missing.reduce((sum, { size }) => sum + size, 0)
  let writing = Promise.resolve()
  const fetchOne = async (file: SourceFile): Promise<void> => {
    try {
      const sha256 = await fetchFile(source, file, join(staging, file.path), {
        signal: AbortSignal.any([signal, failed.signal]),
        silenceMs,
        onBytes: (count) => onEvent({ type: 'progress', doneBytes: (doneBytes += count), totalBytes }),
        onRetry: (reason, waitMs) => onEvent({ type: 'retry', reason, waitMs }),
      })
      record.files[file.path] = { size: file.size, sha256, git_oid: file.gitOid }
      writing = writing.then(() => writePullRecord(staging, record))
      await writing
    } catch (error) {
      failed.abort(error)
      throw error
    }
  }
  // Small files come first, so that a wrong one is found before gigabytes are fetched.
  const inOrder = missing.toSorted((a, b) => a.size - b.size)
  const ended = await Promise.allSettled(inOrder.map(async (file) => await limit(fetchOne, file)))
  signal.throwIfAborted()
  if (ended.some(({ status }) => status === 'rejected')) throw failed.signal.reason
}

/** The paths of the files that are in the folder as recorded and are still what the source has. */
async function findPresent(folder: string, record: PullRecord, files: readonly SourceFile[]): Promise<Set<string>> {
  const sizes = await Promise.all(files.map(async ({ path }) => (await stat(join(folder, path)).catch(() => undefined))?.size))
  return new Set(files.flatMap((file, index) => (isKnown(record, file) && sizes[index] === file.size ? [file.path] : [])))
}

async function linkFile(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await rm(to, { force: true })
  await link(from, to)
}

async function chooseFiles(source: ModelSource, { folder, variant, weights }: PullOptions): Promise<SourceFile[]> {
  const files = await source.list()
  if (folder.endsWith('.safetensors')) return files
  const paths = files.map(({ path }) => path)
  if (!paths.includes('model_index.json'))
    throw new PullError(`${source.name} is not a model that Easel runs: ${describeUnknownLayout(paths)}.`)
  const selected = new Set(selectFiles(paths, (await source.read('model_index.json')).toString(), source.name, { variant, weights }))
  return files.filter(({ path }) => selected.has(path))
}

function isKnown(record: PullRecord, file: SourceFile): boolean {
  const known = record.files[file.path]
  if (known?.size !== file.size) return false
  if (file.sha256 !== undefined) return known.sha256 === file.sha256
  return file.gitOid !== undefined && known.git_oid === file.gitOid
}

/** Checked before the first byte, because a disk that fills up later would affect everything on it. */
async function assertRoom(staging: string, missing: readonly SourceFile[], source: ModelSource): Promise<void> {
  let neededBytes = 0
  for (const file of missing) {
    const local = await source.findLocalCopy(file)
    if (local?.isConstant === true) continue
    const present = await stat(join(staging, `${file.path}.partial`)).catch(() => undefined)
    neededBytes += file.size - Math.min(present?.size ?? 0, file.size)
  }
  const { bavail, bsize } = await statfs(staging)
  const freeBytes = bavail * bsize
  if (neededBytes > freeBytes)
    throw new PullError(
      `Expected ${toGigabytes(neededBytes)} free for ${source.name} in ${dirname(staging)}, got ${toGigabytes(freeBytes)}: make room, or name another folder in MODELS_DIR.`,
    )
}

function toGigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}

/** Puts the model under its name atomically, whether or not there was one. */
async function publish(staging: string, path: string, record: PullRecord): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  if (path.endsWith('.safetensors')) {
    await rename(join(staging, Object.keys(record.files)[0] ?? ''), path)
    await rm(staging, { recursive: true, force: true })
    return
  }
  // Removes what an earlier pull, of a different set of files, has left.
  for (const left of await listFolder(staging)) if (record.files[toSourcePath(staging, left)] === undefined) await rm(left)
  await writePullRecord(staging, record)
  const old = `${staging}.old`
  await rm(old, { recursive: true, force: true })
  if (existsSync(path)) await rename(path, old)
  await rename(staging, path)
  await rm(old, { recursive: true, force: true })
}
