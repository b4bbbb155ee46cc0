/**
 * Owns a bucket of objects on any S3-compatible server: key `images/a.png` is the object `PREFIX/images/a.png`.
 *
 * Invariant: every object is written by one PutObject of bytes in memory, which S3 servers publish atomically. Objects are written and read
 * through `endpoint`; links are signed for `publicEndpoint`, because the Host header is part of the signature.
 * Each request is tried twice here; `putWithRetry` waits for a server that is down.
 */
import { randomUUID } from 'node:crypto'
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  type ObjectCannedACL,
  paginateListObjectsV2,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  type ServerSideEncryption,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { deleteOneByOne } from './delete-one-by-one.ts'
import { assertContentType, assertKeyPrefix, assertObjectKey, isObjectKey, toContentType } from './object-key.ts'
import { toReadableBody } from './readable-body.ts'
import { nameOf, statusOf, toStorageError } from './s3-error.ts'
import type { StorageError } from './storage-error.ts'
import type { ListedObject, ObjectStat, PutOptions, SignedUrl, Storage, StoredObject, UrlOptions } from './storage.ts'

export interface S3StorageOptions {
  bucket: string
  /** The URL at which this process reaches the server. Default: AWS, by region. */
  endpoint?: string | undefined
  /** The URL at which clients reach the server, used in links. Default: `endpoint`. */
  publicEndpoint?: string | undefined
  /** The region for which requests are signed. Default: `us-east-1`, which most servers other than AWS expect. */
  region?: string | undefined
  /** Default: the AWS SDK's chain (AWS_* variables, profile, container or instance role). */
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined
  /** The prefix of every key, with or without slashes around it. Default none. */
  prefix?: string | undefined
  /** Whether the bucket is in the path (`host/bucket/key`) instead of the host name. Default true, which every server understands. */
  forcePathStyle?: boolean | undefined
  /** The encryption requested for each object. Default: the bucket's own. */
  serverSideEncryption?: ServerSideEncryption | undefined
  /** The key for `aws:kms` and `aws:kms:dsse`. Default: the account's. */
  kmsKeyId?: string | undefined
  /** The canned access list of each object, such as `public-read`. Default: none is sent, because many buckets refuse any. */
  acl?: ObjectCannedACL | undefined
  /** The longest wait for an answer, and for the next bytes of one, in ms, from 1. Default 30 000. */
  requestTimeoutMs?: number | undefined
}

const defaultRegion = 'us-east-1'
const defaultRequestTimeoutMs = 30_000
const connectionTimeoutMs = 5_000
/** A quick second attempt hides a connection that the server had just closed. */
const attemptsPerRequest = 2
/** The limit of the signature scheme, a week. */
const maxExpirySeconds = 604_800
/** The bucket exists: another process made it first, or it is ours already. If it belongs to someone else, the write that follows fails. */
const bucketExists = new Set(['BucketAlreadyOwnedByYou', 'BucketAlreadyExists', 'OperationAborted'])
/** The most keys in one call, as the protocol allows. */
const maxKeysPerDelete = 1000
/** The answers of servers that have no call for many objects, or expect another checksum than the SDK sends. */
const noDeleteOfMany = new Set(['NotImplemented', 'MethodNotAllowed', 'MissingContentMD5', 'InvalidRequest', 'MalformedXML'])

/** An object as the commands of the SDK name it. */
interface ObjectLocation {
  Bucket: string
  Key: string
}

export class S3Storage implements Storage {
  readonly kind = 's3'
  readonly #options: S3StorageOptions
  readonly #bucket: string
  /** Empty, or ends in a slash. */
  readonly #prefix: string
  readonly #client: S3Client
  readonly #publicClient: S3Client

  constructor(options: S3StorageOptions) {
    this.#options = options
    this.#bucket = options.bucket
    this.#prefix = toPrefix(options.prefix)
    this.#client = new S3Client(toClientConfig(options, options.endpoint))
    this.#publicClient = new S3Client(toClientConfig(options, options.publicEndpoint ?? options.endpoint))
  }

  async put(key: string, bytes: Uint8Array, { contentType, signal }: PutOptions): Promise<void> {
    const location = this.#locate(key)
    assertContentType(key, contentType)
    signal?.throwIfAborted()
    try {
      await this.#write(location, bytes, contentType, signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw toStorageError(error, `write ${key} to bucket ${this.#bucket}`)
    }
  }

  async open(key: string): Promise<StoredObject | undefined> {
    const location = this.#locate(key)
    const toReadError = (error: unknown) => toStorageError(error, `read ${key} from bucket ${this.#bucket}`)
    try {
      const { Body, ...described } = await this.#client.send(new GetObjectCommand(location))
      if (Body === undefined) throw new Error('Expected a body in the answer')
      const body = toReadableBody(Body.transformToWebStream() as ReadableStream<Uint8Array>, toReadError)
      return { body, ...toStat(key, described) }
    } catch (error) {
      if (nameOf(error) === 'NoSuchKey') return undefined
      throw toReadError(error)
    }
  }

  async stat(key: string): Promise<ObjectStat | undefined> {
    const location = this.#locate(key)
    try {
      return toStat(key, await this.#client.send(new HeadObjectCommand(location)))
    } catch (error) {
      if (statusOf(error) !== 404) throw toStorageError(error, `look at ${key} in bucket ${this.#bucket}`)
    }
    // An answer to HEAD has no body, and servers use 404 for more than a missing object. The answer to GET shows which it is.
    const object = await this.open(key)
    await object?.body.cancel()
    return object
  }

  async url(key: string, { expiresInSeconds }: UrlOptions): Promise<SignedUrl> {
    const location = this.#locate(key)
    if (!Number.isInteger(expiresInSeconds) || expiresInSeconds < 1 || expiresInSeconds > maxExpirySeconds) {
      throw new RangeError(`Expected expiresInSeconds to be an integer from 1 to ${maxExpirySeconds}, got ${expiresInSeconds}`)
    }
    // The signature contains whole seconds; starting at a whole second keeps expiresAt from being a fraction of a second too late.
    const signingDate = new Date(Math.floor(Date.now() / 1000) * 1000)
    try {
      const url = await getSignedUrl(this.#publicClient, new GetObjectCommand(location), { expiresIn: expiresInSeconds, signingDate })
      return { url, expiresAt: new Date(signingDate.getTime() + expiresInSeconds * 1000) }
    } catch (error) {
      throw toStorageError(error, `sign a link to ${key}`)
    }
  }

  async delete(key: string): Promise<void> {
    const location = this.#locate(key)
    try {
      await this.#client.send(new DeleteObjectCommand(location))
    } catch (error) {
      if (nameOf(error) !== 'NoSuchKey') throw toStorageError(error, `delete ${key} from bucket ${this.#bucket}`)
    }
  }

  async deleteMany(keys: readonly string[]): Promise<Map<string, StorageError>> {
    const failures = new Map<string, StorageError>()
    for (let from = 0; from < keys.length; from += maxKeysPerDelete) {
      const batch = keys.slice(from, from + maxKeysPerDelete)
      for (const [key, error] of await this.#deleteBatch(batch)) failures.set(key, error)
    }
    return failures
  }

  list(keyPrefix: string): AsyncIterable<ListedObject> {
    assertKeyPrefix(keyPrefix)
    return this.#listObjects(keyPrefix)
  }

  async check(): Promise<void> {
    try {
      await ensureBucket(this.#client, this.#bucket)
      // A name of its own: servers that keep objects as files refuse a write whose file another process deletes at that moment.
      const location = { Bucket: this.#bucket, Key: `${this.#prefix}.probe-${randomUUID()}` }
      await this.#write(location, new Uint8Array(1), 'application/octet-stream')
      await this.#client.send(new DeleteObjectCommand(location))
    } catch (error) {
      throw toStorageError(error, `write to bucket ${this.#bucket} at ${this.#options.endpoint ?? 'AWS'}`)
    }
  }

  async close(): Promise<void> {
    this.#client.destroy()
    this.#publicClient.destroy()
  }

  #locate(key: string): ObjectLocation {
    assertObjectKey(key)
    return { Bucket: this.#bucket, Key: `${this.#prefix}${key}` }
  }

  async #write(location: ObjectLocation, bytes: Uint8Array, contentType: string, signal?: AbortSignal): Promise<void> {
    const { serverSideEncryption, kmsKeyId, acl } = this.#options
    const command = new PutObjectCommand({
      ...location,
      Body: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      ContentLength: bytes.byteLength,
      ContentType: contentType,
      ServerSideEncryption: serverSideEncryption,
      SSEKMSKeyId: kmsKeyId,
      ACL: acl,
    })
    await this.#client.send(command, signal === undefined ? {} : { abortSignal: signal })
  }

  async #deleteBatch(keys: readonly string[]): Promise<Map<string, StorageError>> {
    const keyOf = new Map(keys.map((key) => [this.#locate(key).Key, key]))
    try {
      const Delete = { Objects: [...keyOf.keys()].map((Key) => ({ Key })), Quiet: true }
      const { Errors = [] } = await this.#client.send(new DeleteObjectsCommand({ Bucket: this.#bucket, Delete }))
      return new Map(
        Errors.flatMap(({ Key = '', Code = '', Message = '' }) => {
          const key = keyOf.get(Key)
          if (key === undefined || Code === 'NoSuchKey') return []
          const error = Object.assign(new Error(Message), { name: Code })
          return [[key, toStorageError(error, `delete ${key} from bucket ${this.#bucket}`)] as const]
        }),
      )
    } catch (error) {
      if (noDeleteOfMany.has(nameOf(error)) || statusOf(error) === 501) return await deleteOneByOne(keys, (key) => this.delete(key))
      const failure = toStorageError(error, `delete ${keys.length} objects from bucket ${this.#bucket}`)
      return new Map(keys.map((key) => [key, failure]))
    }
  }

  async *#listObjects(keyPrefix: string): AsyncGenerator<ListedObject> {
    const range = { Bucket: this.#bucket, Prefix: `${this.#prefix}${keyPrefix}` }
    try {
      for await (const page of paginateListObjectsV2({ client: this.#client }, range)) {
        for (const { Key, LastModified } of page.Contents ?? []) {
          if (Key === undefined || LastModified === undefined) continue
          const key = Key.slice(this.#prefix.length)
          if (isObjectKey(key)) yield { key, lastModified: LastModified }
        }
      }
    } catch (error) {
      throw toStorageError(error, `list '${keyPrefix}' in bucket ${this.#bucket}`)
    }
  }
}

function toStat(key: string, { ContentType, ContentLength, LastModified }: Partial<HeadObjectCommandOutput>): ObjectStat {
  if (ContentLength === undefined || LastModified === undefined) throw new Error('Expected Content-Length and Last-Modified in the answer')
  return { contentType: ContentType ?? toContentType(key), size: ContentLength, lastModified: LastModified }
}

function toClientConfig(options: S3StorageOptions, endpoint: string | undefined): S3ClientConfig {
  const timeoutMs = options.requestTimeoutMs ?? defaultRequestTimeoutMs
  return {
    region: options.region ?? defaultRegion,
    forcePathStyle: options.forcePathStyle ?? true,
    maxAttempts: attemptsPerRequest,
    // The SDK's newer default adds checksum trailers that some servers store as part of the object.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: Math.min(connectionTimeoutMs, timeoutMs),
      requestTimeout: timeoutMs,
      // Without it the SDK only logs a warning and keeps waiting.
      throwOnRequestTimeout: true,
      socketTimeout: timeoutMs,
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  }
}

function toPrefix(prefix: string | undefined): string {
  const trimmed = (prefix ?? '').replace(/^\/+|\/+$/g, '')
  if (trimmed === '') return ''
  assertObjectKey(trimmed)
  return `${trimmed}/`
}

async function ensureBucket(client: S3Client, bucket: string): Promise<void> {
  try {
    await client.send(new HeadBucketCommand({ Bucket: bucket }))
    return
  } catch (error) {
    const status = statusOf(error)
    if (status === undefined || status >= 500) throw error
    // An answer to HEAD gives no reason. The write that follows either fails with one (region, credentials) or succeeds: credentials that may
    // only write objects get 403 here.
    if (status !== 404) return
  }
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
  } catch (error) {
    if (!bucketExists.has(nameOf(error))) throw error
  }
}
