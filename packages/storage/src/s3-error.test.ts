import { expect, test } from 'vitest'
import { toStorageError } from './s3-error.ts'
import { StorageError } from './storage-error.ts'

/** What the SDK throws for an answer with this status and, where the server gave one, this code. */
const answered = (httpStatusCode: number, name = 'UnknownError'): Error =>
  Object.assign(new Error('text of the server'), { name, $metadata: { httpStatusCode } })

test.for([
  [500, 'InternalError', 'unavailable'],
  [503, 'SlowDown', 'unavailable'],
  [507, undefined, 'no_space'],
  [501, 'NotImplemented', 'denied'],
  [429, undefined, 'unavailable'],
  [408, undefined, 'unavailable'],
  [404, 'NoSuchBucket', 'unavailable'],
  // An answer of success that cannot be read was cut short.
  [200, undefined, 'unavailable'],
  [301, 'PermanentRedirect', 'denied'],
  [400, 'InvalidRequest', 'denied'],
  [403, 'AccessDenied', 'denied'],
  [403, 'SignatureDoesNotMatch', 'denied'],
  // The SDK corrects its clock from the answer.
  [403, 'RequestTimeTooSkewed', 'unavailable'],
  // versitygw's answer to a wrong access key.
  [404, 'XAdminUserNotFound', 'denied'],
  [400, 'ExpiredToken', 'denied'],
  [403, 'QuotaExceeded', 'no_space'],
  [400, 'KeyTooLongError', 'invalid_key'],
] as const)('HTTP %d with %s is %s', ([status, name, code]) => {
  const error = toStorageError(answered(status, name), 'write a.png')
  expect(error).toMatchObject({
    code,
    message: expect.stringContaining(`Could not write a.png: ${name ?? 'UnknownError'} (HTTP ${status})`),
  })
})

test('a missing answer is worth another try, and an error of the store stays as it is', () => {
  expect(toStorageError(new Error('connect ECONNREFUSED'), 'read a.png')).toMatchObject({ code: 'unavailable', retryable: true })
  const known = new StorageError('no_space', 'full')
  expect(toStorageError(known, 'read a.png')).toBe(known)
})
