/**
 * Owns the environment variables that choose and configure the store: their names, meaning, ranges and defaults. The api and the worker
 * include them in their own schemas, so both use the same store; the reference documentation is generated from the descriptions.
 *
 * Invariant: does not read the environment itself. A variable set to an empty text must have been dropped before (`S3_BUCKET=` in an env
 * file means unset).
 */
import { ObjectCannedACL, ServerSideEncryption } from '@aws-sdk/client-s3'
import { z } from 'zod'
import type { StorageOptions } from './create-storage.ts'
import { isObjectKey } from './object-key.ts'

const httpUrl = z.url({ protocol: /^https?$/, error: 'Expected an http:// or https:// URL' })

export const storageVariables = {
  STORAGE: z
    .enum(['local', 's3'])
    .optional()
    .describe('Where pictures are kept: `local` folder or `s3` bucket. Default: `s3` when S3_ENDPOINT or S3_BUCKET is set, else `local`.'),
  STORAGE_DIR: z
    .string()
    .min(1)
    .default('data/images')
    .describe('Folder of the local store; api and workers must see the same one. Relative to the working directory.'),
  S3_ENDPOINT: httpUrl
    .optional()
    .describe('URL at which api and workers reach the S3 server (MinIO, RustFS, R2, …). Unset: AWS, by S3_REGION.'),
  S3_PUBLIC_ENDPOINT: httpUrl
    .optional()
    .describe(
      'URL at which clients reach the S3 server, used in presigned links. Unset: S3_ENDPOINT. Host and port must arrive unchanged.',
    ),
  S3_BUCKET: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'Expected 3 to 63 lower-case letters, digits, dots and hyphens')
    .optional()
    .describe('Bucket for the pictures, created at start if it is missing. Required for `s3`.'),
  S3_REGION: z
    .string()
    .min(1)
    .default('us-east-1')
    .describe('Region that requests are signed for. Servers other than AWS mostly expect `us-east-1`; R2 wants `auto`.'),
  S3_ACCESS_KEY_ID: z
    .string()
    .optional()
    .describe(
      'Access key, used with S3_SECRET_ACCESS_KEY. Both unset: credentials are found by the AWS SDK (AWS_* variables, profile, container or instance role).',
    ),
  S3_SECRET_ACCESS_KEY: z.string().optional().describe('Secret of S3_ACCESS_KEY_ID.'),
  S3_PREFIX: z
    .string()
    .refine(isKeyPrefix, 'Expected plain names separated by single slashes')
    .optional()
    .describe('Prefix of every key, such as `easel` or `team/easel`, to share a bucket.'),
  S3_FORCE_PATH_STYLE: z
    .stringbool()
    .default(true)
    .describe('Whether the bucket is in the path (`host/bucket/key`), which every server understands; `false` puts it into the host name.'),
  S3_SERVER_SIDE_ENCRYPTION: z
    .enum([ServerSideEncryption.AES256, ServerSideEncryption.aws_kms, ServerSideEncryption.aws_kms_dsse])
    .optional()
    .describe("Encryption requested for every object. Unset: the bucket's own setting."),
  S3_SSE_KMS_KEY_ID: z.string().optional().describe("KMS key for `aws:kms` and `aws:kms:dsse`. Unset: the account's default key."),
  S3_ACL: z
    .enum(ObjectCannedACL)
    .optional()
    .describe('Canned ACL of every object. Unset: none is sent, as most buckets want it; pictures need none to be read through Easel.'),
  S3_REQUEST_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(100)
    .max(600_000)
    .default(30_000)
    .describe('Longest wait for an answer of the S3 server, in milliseconds. Failed uploads are tried again for two minutes.'),
}

/** Slashes at either end of a prefix have no meaning and are allowed. */
function isKeyPrefix(prefix: string): boolean {
  const trimmed = prefix.replace(/^\/+|\/+$/g, '')
  return trimmed === '' || isObjectKey(trimmed)
}

const storageSchema = z.object(storageVariables)
type StorageVariables = z.output<typeof storageSchema>

/**
 * Reports conflicts between variables, under their names: `schema.superRefine(checkStorageVariables, { when: () => true })`. With that `when`
 * it runs even if other variables have problems, so that all are reported at once; it is silent while a storage variable is itself invalid.
 */
export function checkStorageVariables(values: StorageVariables, context: z.RefinementCtx): void {
  if (context.issues.some((issue) => String(issue.path?.[0]) in storageVariables)) return
  for (const [name, message] of findProblems(values)) context.addIssue({ code: 'custom', path: [name], message })
}

/** The driver's options, from variables that passed `checkStorageVariables`. */
export function toStorageOptions(values: StorageVariables): StorageOptions {
  const [problem] = findProblems(values)
  if (problem !== undefined) throw new TypeError(`${problem[0]}: ${problem[1]}`)
  return drivers[chooseKind(values)].toOptions(values)
}

type Problem = [name: keyof StorageVariables, message: string]

interface DriverVariables {
  /** Returns what is wrong with the variables if this driver is chosen. */
  findProblems: (values: StorageVariables) => Problem[]
  toOptions: (values: StorageVariables) => StorageOptions
}

const drivers: Readonly<Record<StorageOptions['kind'], DriverVariables>> = {
  local: { findProblems: () => [], toOptions: ({ STORAGE_DIR: dir }) => ({ kind: 'local', dir }) },
  s3: { findProblems: findS3Problems, toOptions: toS3Options },
}

function chooseKind(values: StorageVariables): StorageOptions['kind'] {
  return values.STORAGE ?? (values.S3_ENDPOINT !== undefined || values.S3_BUCKET !== undefined ? 's3' : 'local')
}

function findProblems(values: StorageVariables): Problem[] {
  return drivers[chooseKind(values)].findProblems(values)
}

function toS3Options(values: StorageVariables): StorageOptions {
  const { S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey } = values
  return {
    kind: 's3',
    // checkStorageVariables has refused an absent bucket.
    bucket: values.S3_BUCKET ?? '',
    endpoint: values.S3_ENDPOINT,
    publicEndpoint: values.S3_PUBLIC_ENDPOINT,
    region: values.S3_REGION,
    credentials: accessKeyId === undefined || secretAccessKey === undefined ? undefined : { accessKeyId, secretAccessKey },
    prefix: values.S3_PREFIX,
    forcePathStyle: values.S3_FORCE_PATH_STYLE,
    serverSideEncryption: values.S3_SERVER_SIDE_ENCRYPTION,
    kmsKeyId: values.S3_SSE_KMS_KEY_ID,
    acl: values.S3_ACL,
    requestTimeoutMs: values.S3_REQUEST_TIMEOUT_MS,
  }
}

function findS3Problems(values: StorageVariables): Problem[] {
  const problems: Problem[] = []
  if (values.S3_BUCKET === undefined) {
    const reason = values.STORAGE === 's3' ? 'STORAGE is s3' : 'S3_ENDPOINT is set'
    problems.push(['S3_BUCKET', `Expected the name of a bucket because ${reason}, got nothing`])
  }
  if (values.S3_ACCESS_KEY_ID !== undefined && values.S3_SECRET_ACCESS_KEY === undefined) {
    problems.push(['S3_SECRET_ACCESS_KEY', 'Expected the secret of S3_ACCESS_KEY_ID, got nothing'])
  }
  if (values.S3_SECRET_ACCESS_KEY !== undefined && values.S3_ACCESS_KEY_ID === undefined) {
    problems.push(['S3_ACCESS_KEY_ID', 'Expected the access key that S3_SECRET_ACCESS_KEY belongs to, got nothing'])
  }
  if (values.S3_SSE_KMS_KEY_ID !== undefined && !(values.S3_SERVER_SIDE_ENCRYPTION?.startsWith('aws:kms') ?? false)) {
    const got = values.S3_SERVER_SIDE_ENCRYPTION ?? 'nothing'
    problems.push(['S3_SERVER_SIDE_ENCRYPTION', `Expected aws:kms or aws:kms:dsse because S3_SSE_KMS_KEY_ID is set, got ${got}`])
  }
  return problems
}
