import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createSecretFilter } from './secret-filter.ts'

/** The text as it appears in a line written by a service with this environment. */
function logged(env: Record<string, string>, text: string): string {
  const line = createSecretFilter(env)(JSON.stringify({ err: { message: text } }))
  return (JSON.parse(line) as { err: { message: string } }).err.message
}

describe('secrets of the environment', () => {
  test.each([
    ['REDIS_URL', 'redis://user:pass-word-1@one:6379/2', 'pass-word-1'],
    ['REDIS_URL', 'redis://:pass-word-1@one:6379,redis://:pass-word-1@two:6379', 'pass-word-1'],
    ['REDIS_URL', 'rediss://user:p%40ss%2Fword@one', 'p@ss/word'],
    ['REDIS_URL', 'rediss://user:p%40ss%2Fword@one', 'p%40ss%2Fword'],
    ['REDIS_URL', 'redis://:100%-word@one', '100%-word'],
    ['REDIS_SENTINEL_PASSWORD', 'pass,word-1', 'pass,word-1'],
    ['S3_SECRET_ACCESS_KEY', 'quoted"back\\slash', 'quoted"back\\slash'],
    ['AWS_SECRET_ACCESS_KEY', 'secret-of-aws', 'secret-of-aws'],
    ['AWS_SESSION_TOKEN', 'token-of-aws', 'token-of-aws'],
    ['API_KEYS', 'alice:alice-secret, other-secret', 'alice-secret'],
    ['API_KEYS', 'alice:alice-secret, other-secret', 'other-secret'],
    ['ADMIN_KEY', 'key-of-the-operator', 'key-of-the-operator'],
    ['HF_TOKEN', 'hf_token-of-a-hub', 'hf_token-of-a-hub'],
    ['HTTPS_PROXY', 'http://user:pass-word-1@proxy:3128', 'pass-word-1'],
    ['WEBHOOK_SECRETS', 'whsec_first, whsec_second', 'whsec_second'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'x-tenant=a,authorization=Bearer abc', 'Bearer abc'],
  ])('are in no line: from %s=%s, %s is taken out', (name, value, secret) => {
    expect(logged({ [name]: value }, `before ${secret} after`)).toBe('before [secret] after')
  })

  test('include the keys in the file that API_KEYS_FILE names', () => {
    const folder = mkdtempSync(join(tmpdir(), 'easel-keys-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'keys')
    writeFileSync(file, '# of the operators\nalice:alice-secret\nbob*2:bobs-secret\n')
    expect(logged({ API_KEYS_FILE: file }, 'alice-secret and bobs-secret')).toBe('[secret] and [secret]')
    expect(logged({ API_KEYS_FILE: `${file}-of-yesterday` }, 'alice-secret')).toBe('alice-secret')
  })

  test('are taken out as a whole, even if one contains another', () => {
    expect(logged({ API_KEYS: 'long-key,long-key-2' }, 'long-key-2 and long-key')).toBe('[secret] and [secret]')
  })

  test('leave everything else as it is, including the host and the name of a key', () => {
    const env = { REDIS_URL: 'redis://user:pass-word-1@host-of-redis:6379', API_KEYS: 'alice-of-ops:alice-secret', ADMIN_KEY: 'ops' }
    for (const text of ['redis://user@host-of-redis:6379', 'alice-of-ops', 'ops']) expect(logged(env, text)).toBe(text)
    expect(logged({}, 'some text')).toBe('some text')
  })
})
