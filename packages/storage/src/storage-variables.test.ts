import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createStorage } from './create-storage.ts'
import { checkStorageVariables, storageVariables, toStorageOptions } from './storage-variables.ts'

// As in a service, which adds a variable of its own.
const schema = z
  .object({ PORT: z.coerce.number().default(8500), ...storageVariables })
  .superRefine(checkStorageVariables, { when: () => true })
const read = (env: Record<string, string>) => toStorageOptions(schema.parse(env))

/** Each problem as `VARIABLE: message`. */
function problemsOf(env: Record<string, string>): string[] {
  const result = schema.safeParse(env)
  return result.success ? [] : result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
}

describe('the kind of store', () => {
  test.for([
    [{}, 'local'],
    [{ S3_ENDPOINT: 'http://s3:9000', S3_BUCKET: 'easel' }, 's3'],
    [{ S3_BUCKET: 'easel' }, 's3'],
    [{ STORAGE: 's3', S3_BUCKET: 'easel' }, 's3'],
    [{ STORAGE: 'local', S3_BUCKET: 'easel', S3_ENDPOINT: 'http://s3:9000' }, 'local'],
    [{ S3_REGION: 'eu-west-1' }, 'local'],
  ] as const)('for %j is %s', async ([env, kind]) => {
    const options = read(env)
    expect(options.kind).toBe(kind)
    const storage = createStorage(options)
    expect(storage.kind).toBe(kind)
    await storage.close()
  })
})

test('the defaults are a local folder, and for a bucket path style, us-east-1 and 30 s', () => {
  expect(read({})).toEqual({ kind: 'local', dir: 'data/images' })
  expect(read({ S3_BUCKET: 'easel' })).toMatchObject({
    region: 'us-east-1',
    forcePathStyle: true,
    requestTimeoutMs: 30_000,
    credentials: undefined,
  })
})

test('every variable reaches the driver', () => {
  expect(
    read({
      S3_ENDPOINT: 'http://s3:9000',
      S3_PUBLIC_ENDPOINT: 'https://pictures.example.com',
      S3_BUCKET: 'easel',
      S3_REGION: 'auto',
      S3_ACCESS_KEY_ID: 'key',
      S3_SECRET_ACCESS_KEY: 'secret',
      S3_PREFIX: 'team/easel/',
      S3_FORCE_PATH_STYLE: 'false',
      S3_SERVER_SIDE_ENCRYPTION: 'aws:kms',
      S3_SSE_KMS_KEY_ID: 'key-1',
      S3_ACL: 'public-read',
      S3_REQUEST_TIMEOUT_MS: '5000',
    }),
  ).toEqual({
    kind: 's3',
    endpoint: 'http://s3:9000',
    publicEndpoint: 'https://pictures.example.com',
    bucket: 'easel',
    region: 'auto',
    credentials: { accessKeyId: 'key', secretAccessKey: 'secret' },
    prefix: 'team/easel/',
    forcePathStyle: false,
    serverSideEncryption: 'aws:kms',
    kmsKeyId: 'key-1',
    acl: 'public-read',
    requestTimeoutMs: 5000,
  })
  expect(read({ STORAGE_DIR: '/srv/pictures' })).toEqual({ kind: 'local', dir: '/srv/pictures' })
})

test.for([
  [{ STORAGE: 's3' }, 'S3_BUCKET: Expected the name of a bucket because STORAGE is s3, got nothing'],
  [{ S3_ENDPOINT: 'http://s3:9000' }, 'S3_BUCKET: Expected the name of a bucket because S3_ENDPOINT is set, got nothing'],
  [{ S3_BUCKET: 'easel', S3_ACCESS_KEY_ID: 'key' }, 'S3_SECRET_ACCESS_KEY: Expected the secret of S3_ACCESS_KEY_ID, got nothing'],
  [
    { S3_BUCKET: 'easel', S3_SECRET_ACCESS_KEY: 'hidden' },
    'S3_ACCESS_KEY_ID: Expected the access key that S3_SECRET_ACCESS_KEY belongs to, got nothing',
  ],
  [
    { S3_BUCKET: 'easel', S3_SSE_KMS_KEY_ID: 'key-1', S3_SERVER_SIDE_ENCRYPTION: 'AES256' },
    'S3_SERVER_SIDE_ENCRYPTION: Expected aws:kms or aws:kms:dsse because S3_SSE_KMS_KEY_ID is set, got AES256',
  ],
] as const)('variables that do not go together are refused by name: %j', ([env, problem]) => {
  expect(problemsOf(env)).toEqual([problem])
})

test('all problems are reported at once, with those of other variables', () => {
  expect(problemsOf({ PORT: 'x', STORAGE: 's3' }).map((problem) => problem.split(':')[0])).toEqual(['PORT', 'S3_BUCKET'])
  expect(problemsOf({ PORT: 'x', S3_ENDPOINT: 'x' }).map((problem) => problem.split(':')[0])).toEqual(['PORT', 'S3_ENDPOINT'])
  expect(problemsOf({ STORAGE: 'gcs', S3_ACCESS_KEY_ID: 'key' }).map((problem) => problem.split(':')[0])).toEqual(['STORAGE'])

  expect(problemsOf({ STORAGE: 's3', S3_ACCESS_KEY_ID: 'key' }).map((problem) => problem.split(':')[0])).toEqual([
    'S3_BUCKET',
    'S3_SECRET_ACCESS_KEY',
  ])
})

test.for([
  ['STORAGE', 'gcs'],
  ['STORAGE_DIR', ''],
  ['S3_ENDPOINT', 's3:9000'],
  ['S3_ENDPOINT', 'ftp://s3'],
  ['S3_PUBLIC_ENDPOINT', 'not a url'],
  ['S3_BUCKET', 'UPPER'],
  ['S3_BUCKET', 'a'],
  ['S3_BUCKET', 'a/b'],
  ['S3_BUCKET', 'under_score'],
  ['S3_REGION', ''],
  ['S3_PREFIX', '../other'],
  ['S3_PREFIX', 'a//b'],
  ['S3_FORCE_PATH_STYLE', 'maybe'],
  ['S3_SERVER_SIDE_ENCRYPTION', 'rot13'],
  ['S3_ACL', 'everyone'],
  ['S3_REQUEST_TIMEOUT_MS', '0'],
  ['S3_REQUEST_TIMEOUT_MS', '1.5'],
  ['S3_REQUEST_TIMEOUT_MS', 'soon'],
] as const)('%s=%s is refused', ([name, value]) => {
  expect(problemsOf({ [name]: value }).some((problem) => problem.startsWith(`${name}: `))).toBe(true)
})

test.for(Object.entries(storageVariables))('%s says what it is for', ([, variable]) => {
  expect(variable.description).toMatch(/\w{3,}.*\.$/)
})

test('the variables can be written down as JSON Schema, for the reference', () => {
  const { properties } = z.toJSONSchema(z.object(storageVariables), { io: 'input' })
  expect(properties).toMatchObject({
    STORAGE: { enum: ['local', 's3'] },
    STORAGE_DIR: { type: 'string', default: 'data/images' },
    S3_REGION: { type: 'string', default: 'us-east-1', description: expect.stringContaining('Region') },
  })
})
