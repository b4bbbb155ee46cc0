/** Owns the clients that tests open to one S3 server, so that each file can close all of them. */
import { randomUUID } from 'node:crypto'
import { S3Client } from '@aws-sdk/client-s3'
import { S3Storage, type S3StorageOptions } from '../src/s3-storage.ts'
import type { Storage } from '../src/storage.ts'
import type { S3Server } from './server-under-test.ts'

const closers: (() => Promise<void>)[] = []

export async function closeConnections(): Promise<void> {
  for (const close of closers.splice(0)) await close()
}

export function toBucketName(): string {
  return `easel-test-${randomUUID()}`
}

/** A storage on its own bucket, unless another one is given. */
export function connectTo(server: S3Server, options: Partial<S3StorageOptions> = {}): Storage {
  const { endpoint, accessKeyId, secretAccessKey } = server
  const storage = new S3Storage({ endpoint, bucket: toBucketName(), credentials: { accessKeyId, secretAccessKey }, ...options })
  closers.push(() => storage.close())
  return storage
}

/** The SDK's plain client, to inspect what was really stored. */
export function connectPlainly(server: S3Server): S3Client {
  const { endpoint, accessKeyId, secretAccessKey } = server
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
  closers.push(async () => client.destroy())
  return client
}
