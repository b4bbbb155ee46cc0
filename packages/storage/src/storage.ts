/**
 * Owns the interface between the services and the place where pictures are kept. Two drivers implement it, `local-storage.ts` and
 * `s3-storage.ts`; `test/conformance.ts` defines what both must do.
 *
 * Glossary: an *object* is a sequence of bytes with a content type; a *key* is its name, a relative path such as `images/ID-0.png`;
 * the *store* is the folder or bucket that holds the objects.
 *
 * Knows nothing about jobs, models or HTTP routes. Runs in the api and in the worker's main process.
 */

import type { StorageError } from './storage-error.ts'

export interface Storage {
  /** Name of the driver. */
  readonly kind: string

  /**
   * Writes the object, replacing one with the same key. A reader sees either the old bytes or the new ones, never a part.
   * When it resolves, the bytes are durable as far as the store can tell.
   */
  put(key: string, bytes: Uint8Array, options: PutOptions): Promise<void>

  /** The object, or undefined when there is none. The caller must read `body` to its end or cancel it, to release its file or socket. */
  open(key: string): Promise<StoredObject | undefined>

  /** What is known about the object without reading it, or undefined when there is none. Costs no more than one request. */
  stat(key: string): Promise<ObjectStat | undefined>

  /**
   * A link that anyone can open until `expiresAt`, or undefined when the store cannot make links (a local folder).
   * It is only signed, not checked: the object may be missing.
   */
  url(key: string, options: UrlOptions): Promise<SignedUrl | undefined>

  /** Removes the object; does nothing when it is absent. */
  delete(key: string): Promise<void>

  /**
   * Removes objects in as few calls as the store allows, ignoring absent ones. Resolves with the error for each key whose object may still
   * exist; the map is empty when all are gone.
   */
  deleteMany(keys: readonly string[]): Promise<Map<string, StorageError>>

  /** Every object whose key begins with `prefix`, in no particular order. Objects may be deleted while it runs. */
  list(prefix: string): AsyncIterable<ListedObject>

  /** Makes sure that the store exists (creating a missing folder or bucket) and can be written to; throws otherwise. */
  check(): Promise<void>

  /** Releases sockets. The storage must not be used afterwards. */
  close(): Promise<void>
}

export interface PutOptions {
  /** Must be the type that the key's extension stands for: `image/png` for `.png`, `application/octet-stream` for an unknown one. */
  contentType: string
  /** Aborts a write that is under way; the promise then rejects with the signal's reason. Default none. */
  signal?: AbortSignal | undefined
}

export interface UrlOptions {
  /** How long the link works, in seconds: an integer, 1–604800 (a week, the limit of S3 signatures). */
  expiresInSeconds: number
}

export interface ObjectStat {
  contentType: string
  /** Bytes. */
  size: number
  lastModified: Date
}

export interface StoredObject extends ObjectStat {
  body: ReadableStream<Uint8Array>
}

export interface SignedUrl {
  url: string
  expiresAt: Date
}

export interface ListedObject {
  key: string
  lastModified: Date
}
