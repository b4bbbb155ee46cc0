/**
 * A repository of the Hugging Face hub as a source of files. Listing, file information and the hub's storage protocol (Xet) are those of
 * `@huggingface/hub`; ranges of plain downloads are asked for here.
 *
 * Invariant: everything is read at one commit, to which the revision pointed when it was opened. Knows nothing about which files matter.
 */
import { existsSync } from 'node:fs'
import { readFile, realpath } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { downloadFile, fileDownloadInfo, getHFHubCachePath, getRepoFolderName, listFiles, modelInfo } from '@huggingface/hub'
import { createHubFetch } from './hub-fetch.ts'
import type { ModelSource, SourceFile } from './model-source.ts'
import { PullError } from './pull-error.ts'

export interface HubOptions {
  /** Base address of the hub. Default: HF_ENDPOINT, else https://huggingface.co. */
  hubUrl?: string
  /** Default: HF_TOKEN, else the file that `hf auth login` writes. */
  token?: string
  /** The folder of the hub's own cache, whose files are used instead of being fetched again. Default: where Hugging Face's tools keep it. */
  cacheDir?: string
  signal: AbortSignal
  onRetry: (reason: string, waitMs: number) => void
  /** See `createHubFetch`. */
  firstWaitMs?: number
}

type Variables = Readonly<Record<string, string | undefined>>

/** What the environment says about the hub. */
export async function readHubVariables(env: Variables): Promise<Pick<HubOptions, 'hubUrl' | 'token'>> {
  const home = env['HF_HOME'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'huggingface')
  const token = env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN'] || (await readToken(env['HF_TOKEN_PATH'] || join(home, 'token')))
  return { hubUrl: (env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, ''), token: token?.trim() || undefined }
}

async function readToken(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    return undefined
  }
}

export async function openHubRepository(repository: string, revision: string, options: HubOptions): Promise<ModelSource> {
  const { hubUrl = 'https://huggingface.co', token, cacheDir = getHFHubCachePath(), signal, onRetry, firstWaitMs } = options
  if (token !== undefined && !token.startsWith('hf_'))
    throw new PullError('Expected a token of the hub, which begins with "hf_", in HF_TOKEN or the token file, got something else.')
  const hubFetch = createHubFetch({ repository, revision, hubUrl, hasToken: token !== undefined, signal, onRetry, firstWaitMs })
  const access = { hubUrl, fetch: hubFetch, ...(token === undefined ? {} : { accessToken: token }) }
  const info = await modelInfo({ name: repository, revision, additionalFields: ['sha'], ...access })
  // A repository that has moved answers under its new name.
  const at = { repo: { type: 'model' as const, name: info.name }, revision: info.sha, ...access }
  const blobs = join(cacheDir, getRepoFolderName(at.repo), 'blobs')

  const open: ModelSource['open'] = async (file, offset, fileSignal) => {
    const download = await fileDownloadInfo({ ...at, path: file.path })
    if (download === null) throw new PullError(`${repository} has lost ${file.path} while it was fetched: try again.`)
    if (download.xet !== undefined) {
      const blob = await downloadFile({ ...at, path: file.path, downloadInfo: download })
      if (blob === null) throw new PullError(`${repository} has lost ${file.path} while it was fetched: try again.`)
      return { offset, bytes: untilAborted(blob.slice(offset).stream(), fileSignal) }
    }
    const headers: Record<string, string> = { range: `bytes=${offset}-` }
    if (token !== undefined) headers['authorization'] = `Bearer ${token}`
    const response = await hubFetch(download.url, { headers, signal: fileSignal })
    if (!response.ok) {
      await response.body?.cancel()
      throw new Error(`the hub's storage answers ${response.status}`)
    }
    if (response.body === null) throw new Error(`${file.path} came without a body`)
    return { offset: response.status === 206 ? offset : 0, bytes: response.body }
  }

  return {
    name: repository,
    origin: `${hubUrl}/${info.name}@${info.sha}`,
    async list() {
      const files: SourceFile[] = []
      for await (const entry of listFiles({ ...at, recursive: true })) {
        if (entry.type !== 'file') continue
        assertInside(entry.path, repository)
        files.push({ path: entry.path, size: entry.size, ...(entry.lfs === undefined ? { gitOid: entry.oid } : { sha256: entry.lfs.oid }) })
      }
      return files
    },
    async read(path) {
      const { bytes } = await open({ path, size: 0 }, 0, signal)
      const chunks: Uint8Array[] = []
      for await (const chunk of bytes) chunks.push(chunk)
      return Buffer.concat(chunks)
    },
    open,
    async findLocalCopy({ sha256, gitOid }) {
      const path = join(blobs, sha256 ?? gitOid ?? '')
      return existsSync(path) ? { path: await realpath(path), isConstant: true } : undefined
    },
  }
}

/** Names come from the repository and become paths on this machine, so they must be checked. */
function assertInside(path: string, repository: string): void {
  if (path.startsWith('/') || path.includes('\\') || path.split('/').some((part) => ['', '.', '..'].includes(part)))
    throw new PullError(`${repository} has a file named ${JSON.stringify(path)}, which would leave the model's folder.`)
}

async function* untilAborted(stream: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader()
  const cancel = (): void => void reader.cancel(signal.reason).catch(() => {})
  signal.addEventListener('abort', cancel, { once: true })
  try {
    for (;;) {
      const { done, value } = await reader.read()
      signal.throwIfAborted()
      if (done) return
      yield value
    }
  } finally {
    signal.removeEventListener('abort', cancel)
    await reader.cancel().catch(() => {})
  }
}
