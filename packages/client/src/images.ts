/** Fetches the pictures of jobs. Their URLs need no key and get none, because they may lead to an object store. */
import type * as FileSystem from 'node:fs/promises'
import type { Image } from '@easel/contract'
import type { RequestOptions, RequestSender } from './request-sender.ts'

export interface Images {
  /** The file of a picture. */
  bytes(image: Pick<Image, 'url'>, options?: RequestOptions): Promise<Uint8Array<ArrayBuffer>>
  /** Writes a picture to a file, replacing one of the same name. Works in Node, Deno and Bun only. */
  toFile(image: Pick<Image, 'url'>, path: string | URL, options?: RequestOptions): Promise<void>
}

export function createImages(sender: RequestSender): Images {
  const bytes: Images['bytes'] = async ({ url }, options = {}) =>
    await sender.send({ path: url }, async (response) => new Uint8Array(await response.arrayBuffer()), options)
  return {
    bytes,
    async toFile(image, path, options) {
      const files = findFileSystem()
      if (files === undefined) throw new TypeError('Expected a file system, got a runtime without one: use images.bytes')
      await files.writeFile(path, await bytes(image, options))
    },
  }
}

/** Taken from the runtime instead of being imported, so that bundlers for browsers do not look for it. */
function findFileSystem(): typeof FileSystem | undefined {
  return globalThis.process?.getBuiltinModule?.('node:fs/promises')
}
