/**
 * A hub for tests: the part of the Hugging Face hub's HTTP api that a pull uses. It has two ports on this machine, one for the api and one for large
 * files, because the real hub has two hosts.
 *
 * Invariant: it serves what the test gave it, except where the test asked for a fault. It records every request.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { listFolder, toSourcePath } from '../src/local-source.ts'

export interface HubRepository {
  /** The content of files, by path. */
  files: Record<string, Buffer>
  /** The commit to which every revision below points. */
  sha?: string
  /** The names of revisions besides the commit. Default: main. */
  revisions?: string[]
  /** Only this token may read; the account of any other has not accepted the terms. */
  gatedFor?: string
  /** Whether clients that support it get large files by the hub's own storage protocol (Xet). */
  xet?: boolean
  /** The repository's new name, to which requests are redirected. */
  movedTo?: string
}

/** What goes wrong with the next answers for a path; undefined for nothing. */
export interface HubFault {
  /** Answer with this status. */
  status?: number
  headers?: Record<string, string>
  /** End the connection after this many bytes of the body. */
  cutAfter?: number
  /** Bytes per second; may be changed while an answer is under way. */
  bytesPerSecond?: number
  /** Send other bytes of the same length. */
  corrupt?: boolean
  /** Send the complete file, whatever range was asked for. */
  ignoreRange?: boolean
}

export interface HubRequest {
  path: string
  range: string | undefined
  authorization: string | undefined
  /** How many bytes of the body were sent. */
  sentBytes: number
}

export interface HubServer {
  url: string
  requests: HubRequest[]
  /** Consulted for each request, in order. */
  fault: (path: string) => HubFault | undefined
  close(): Promise<void>
}

/** Files of at least this many bytes are in large file storage. */
const largeFileBytes = 10_000
/** The number of entries on a page of a listing: small, so that tests have several pages. */
const pageSize = 5
const chunkBytes = 16_384

export async function startHubServer(repositories: Record<string, HubRepository>): Promise<HubServer> {
  const hub: HubServer = { url: '', requests: [], fault: () => undefined, close: async () => {} }
  const blobs = new Map<string, Buffer>()
  for (const { files } of Object.values(repositories)) for (const content of Object.values(files)) blobs.set(sha256(content), content)

  const storage = await listen((request, response) => {
    const [, kind, hash = ''] = /^\/(blobs|xorbs|v2\/reconstructions)\/(.*)$/.exec(pathOf(request)) ?? []
    const content = blobs.get(hash)
    if (content === undefined) response.writeHead(404).end()
    else if (kind === 'blobs') void sendFile(request, response, content, {})
    else if (kind === 'xorbs') void sendFile(request, response, toXorb(content), {})
    else {
      const { range } = request.headers
      const info = reconstruct(content, hash, range ?? '', urlOf(storage))
      hub.requests.push({ path: pathOf(request), range, authorization: request.headers.authorization, sentBytes: 0 })
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(info))
    }
  })
  const storageUrl = urlOf(storage)

  async function sendFile(
    request: IncomingMessage,
    response: ServerResponse,
    content: Buffer,
    headers: Record<string, string>,
  ): Promise<void> {
    const path = pathOf(request)
    const { range, authorization } = request.headers
    const entry: HubRequest = { path, range, authorization, sentBytes: 0 }
    hub.requests.push(entry)
    const fault = hub.fault(path) ?? {}
    const { status, cutAfter, corrupt, ignoreRange } = fault
    if (status !== undefined) {
      response.writeHead(status, fault.headers).end()
      return
    }
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(ignoreRange === true ? '' : (range ?? '')) ?? []
    const start = Number(first ?? 0)
    const end = last === undefined || last === '' ? content.length : Number(last) + 1
    const body = corrupt === true ? Buffer.alloc(end - start, 7) : content.subarray(start, end)
    const partial = first === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${content.length}` }
    response.writeHead(first === undefined ? 200 : 206, {
      ...headers,
      ...partial,
      'content-length': body.length,
      etag: `"${sha256(content)}"`,
    })
    for (let sent = 0; sent < body.length && !response.destroyed; sent += chunkBytes) {
      const chunk = body.subarray(sent, Math.min(sent + chunkBytes, cutAfter ?? Infinity))
      if (!response.write(chunk)) await untilDrained(response)
      entry.sentBytes += chunk.length
      if (cutAfter !== undefined && sent + chunk.length >= cutAfter) {
        response.destroy()
        return
      }
      if (fault.bytesPerSecond !== undefined) await sleep((chunk.length / fault.bytesPerSecond) * 1000)
    }
    response.end()
  }

  const api = await listen((request, response) => {
    const url = new URL(request.url ?? '/', 'http://hub')
    const [, kind, owner, name, verb, revision, path] =
      /^\/(api\/models\/)?([^/]+)\/([^/]+)\/(revision|tree|resolve|xet-read-token)\/([^/]+)(?:\/(.*))?$/.exec(
        decodeURIComponent(url.pathname),
      ) ?? []
    const id = `${owner}/${name}`
    const repository = repositories[id]
    const refuse = (status: number, code: string, error: string): void => {
      hub.requests.push({ path: url.pathname, range: undefined, authorization: request.headers.authorization, sentBytes: 0 })
      const headers = { 'x-error-code': code, 'x-error-message': error, 'content-type': 'application/json' }
      response.writeHead(status, headers).end(JSON.stringify({ error }))
    }
    const token = request.headers.authorization?.replace('Bearer ', '')
    if (repository === undefined) return refuse(token === undefined ? 401 : 404, 'RepoNotFound', 'Repository not found')
    if (repository.movedTo !== undefined) {
      response.writeHead(307, { location: request.url?.replace(id, repository.movedTo) ?? '' }).end()
      return undefined
    }
    const sha = repository.sha ?? 'a'.repeat(40)
    if (![sha, ...(repository.revisions ?? ['main'])].includes(revision ?? ''))
      return refuse(404, 'RevisionNotFound', `Invalid rev id: ${revision}`)
    const answer = (body: unknown, headers: Record<string, string> = {}): void => {
      void sendFile(request, response, Buffer.from(JSON.stringify(body)), { 'content-type': 'application/json', ...headers })
    }
    if (verb === 'xet-read-token') return answer({ accessToken: 'xet', casUrl: storageUrl, exp: Date.now() / 1000 + 3600 })
    if (kind !== undefined && verb === 'revision') return answer({ _id: '1', id, sha, private: false, lastModified: new Date(0) })
    if (repository.gatedFor !== undefined && token !== repository.gatedFor)
      return refuse(token === undefined ? 401 : 403, 'GatedRepo', `Access to model ${id} is restricted.`)
    if (kind !== undefined && verb === 'tree') {
      const page = Number(url.searchParams.get('cursor') ?? 0)
      const entries = toTree(repository.files)
      url.searchParams.set('cursor', String(page + pageSize))
      const next = page + pageSize < entries.length ? { link: `<${hub.url}${url.pathname}${url.search}>; rel="next"` } : {}
      return answer(entries.slice(page, page + pageSize), next as Record<string, string>)
    }
    const content = repository.files[path ?? '']
    if (content === undefined) return refuse(404, 'EntryNotFound', 'Entry not found')
    const headers = { 'x-repo-commit': sha }
    if (content.length < largeFileBytes) return void sendFile(request, response, content, headers)
    hub.requests.push({ path: url.pathname, range: request.headers.range, authorization: request.headers.authorization, sentBytes: 0 })
    const linked = { 'x-linked-size': String(content.length), 'x-linked-etag': `"${sha256(content)}"` }
    if (repository.xet === true && request.headers.accept?.includes('xet-fileinfo') === true) {
      const hash = sha256(content)
      const auth = `<${hub.url}/api/models/${id}/xet-read-token/${sha}>; rel="xet-auth"`
      const link = `${auth}, <${storageUrl}/v1/reconstructions/${hash}>; rel="xet-reconstruction-info"`
      response
        .writeHead(200, { ...headers, ...linked, 'content-type': 'application/vnd.xet-fileinfo+json', 'x-xet-hash': hash, link })
        .end('{}')
      return undefined
    }
    response.writeHead(302, { ...headers, ...linked, location: `${storageUrl}/blobs/${sha256(content)}` }).end()
    return undefined
  })
  hub.url = urlOf(api)
  hub.close = async () => {
    for (const server of [api, storage]) {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    }
  }
  return hub
}

/** The files in a folder, as a repository has them. */
export async function readRepository(folder: string): Promise<Record<string, Buffer>> {
  const paths = await listFolder(folder)
  return Object.fromEntries(paths.map((path) => [toSourcePath(folder, path), readFileSync(path)]))
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}

const xorbChunkBytes = 65_536

/** Chunks as Xet stores them, uncompressed: a version and two lengths of three bytes with the compression scheme between them. */
function toXorb(content: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let start = 0; start < content.length; start += xorbChunkBytes) {
    const chunk = content.subarray(start, start + xorbChunkBytes)
    const header = Buffer.alloc(8)
    header.writeUIntLE(chunk.length, 1, 3)
    header.writeUIntLE(chunk.length, 5, 3)
    parts.push(header, chunk)
  }
  return Buffer.concat(parts)
}

/** Which chunks of a xorb contain the requested bytes. */
function reconstruct(content: Buffer, hash: string, range: string, storageUrl: string) {
  const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? []
  const start = Math.floor(Number(first) / xorbChunkBytes)
  const end = Math.floor((last === '' ? content.length - 1 : Number(last)) / xorbChunkBytes) + 1
  const bytes = { start: start * (xorbChunkBytes + 8), end: Math.min(end * (xorbChunkBytes + 8), toXorb(content).length) - 1 }
  const unpacked = Math.min(end * xorbChunkBytes, content.length) - start * xorbChunkBytes
  return {
    terms: [{ hash, unpacked_length: unpacked, range: { start, end } }],
    xorbs: { [hash]: [{ url: `${storageUrl}/xorbs/${hash}`, ranges: [{ chunks: { start, end }, bytes }] }] },
    offset_into_first_range: Number(first) - start * xorbChunkBytes,
  }
}

function toTree(files: Record<string, Buffer>) {
  const entries = Object.entries(files).map(([path, content]) => {
    const isLarge = content.length >= largeFileBytes
    const oid = createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
    const lfs = { oid: sha256(content), size: content.length, pointerSize: 132 }
    return { type: 'file', path, size: content.length, oid: isLarge ? '0'.repeat(40) : oid, ...(isLarge ? { lfs } : {}) }
  })
  const folders = new Set(Object.keys(files).flatMap((path) => (path.includes('/') ? [path.split('/')[0]] : [])))
  return [...[...folders].map((path) => ({ type: 'directory', path, size: 0, oid: '0'.repeat(40) })), ...entries]
}

async function untilDrained(response: ServerResponse): Promise<void> {
  const over = new AbortController()
  const { signal } = over
  await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })]).finally(() => over.abort())
}

function pathOf(request: IncomingMessage): string {
  return new URL(request.url ?? '/', 'http://hub').pathname
}

async function listen(onRequest: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(onRequest).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
