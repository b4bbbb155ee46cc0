/**
 * Fetches an input picture from a URL in a request, guarded like webhooks: each redirect is checked like the URL itself, everything together
 * has one deadline, and no more bytes are read than a picture may have. Error messages for clients never reveal addresses. Runs in the api.
 */
import type { IncomingMessage } from 'node:http'
import type { LookupFunction } from 'node:net'
import { describeFailure, guardedRequest } from '../outbound/guarded-request.ts'
import { judgeUrl } from '../outbound/judge-url.ts'
import { UnusablePicture } from '@easel/input-pictures'

export interface FetchOptions {
  /** Whether http:// and private addresses are allowed. */
  allowInsecure: boolean
  maxBytes: number
  /** The time for everything together. Default 15000. */
  timeoutMs?: number
  /** Resolves names. Default: Node's. */
  lookup?: LookupFunction
}

/** A picture has too many bytes. */
export class PictureTooLarge extends Error {
  override readonly name = 'PictureTooLarge'
}

const maxRedirects = 3
const headers = { 'user-agent': 'Easel-Inputs/1', accept: 'image/*', 'accept-encoding': 'identity' }

/** Throws `UnusablePicture` or `PictureTooLarge`. */
export async function fetchPicture(text: string, options: FetchOptions): Promise<Uint8Array> {
  const { allowInsecure, maxBytes, timeoutMs = 15_000, lookup } = options
  const signal = AbortSignal.timeout(timeoutMs)
  let target = text
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const { url, expected } = judgeUrl(target, { allowInsecure })
    if (url === undefined) throw new UnusablePicture(expected, redirects === 0 ? 'another' : 'a redirect to another')
    try {
      const got = await guardedRequest(
        url,
        { headers, signal, allowInsecure, lookup },
        async (answer) => await readAnswer(answer, maxBytes),
      )
      if (typeof got !== 'string') return got
      target = new URL(got, url).href
    } catch (error) {
      if (error instanceof UnusablePicture || error instanceof PictureTooLarge) throw error
      const why = signal.aborted ? `no complete answer within ${timeoutMs / 1000} s` : describeFailure(error)
      throw new UnusablePicture('a URL that can be fetched', why)
    }
  }
  throw new UnusablePicture('a URL that can be fetched', `more than ${maxRedirects} redirects`)
}

/** The bytes, or the target of a redirect. */
async function readAnswer(answer: IncomingMessage, maxBytes: number): Promise<Uint8Array | string> {
  const { statusCode = 0 } = answer
  try {
    const { location } = answer.headers
    if (statusCode >= 300 && statusCode < 400 && location !== undefined) return location
    if (statusCode !== 200) throw new UnusablePicture('a URL that can be fetched', `an answer with status ${statusCode}`)
    if (Number(answer.headers['content-length'] ?? 0) > maxBytes) throw new PictureTooLarge()
    const chunks: Buffer[] = []
    let read = 0
    for await (const chunk of answer) {
      read += (chunk as Buffer).length
      if (read > maxBytes) throw new PictureTooLarge()
      chunks.push(chunk as Buffer)
    }
    return Buffer.concat(chunks)
  } finally {
    answer.destroy()
  }
}
