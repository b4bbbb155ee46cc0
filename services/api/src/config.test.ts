import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ConfigError } from '@easel/process'
import { ApiKeyRing } from './api-key-ring.ts'
import { apiVariables, readConfig } from './config.ts'

describe('the environment', () => {
  test('may be empty', () => {
    expect(readConfig({})).toMatchObject({
      host: '0.0.0.0',
      port: 8500,
      publicUrl: 'http://localhost:8500',
      redis: { url: 'redis://localhost:6379' },
      queuePrefix: '{easel}',
      defaultModel: 'tiny-scenes',
      resultTtlSeconds: 86_400,
      maxQueuedJobs: 10_000,
      corsOrigins: ['*'],
      apiKeys: [],
      inferenceWaitSeconds: 480,
      metricsLogIntervalMs: 0,
      shutdownGraceMs: 30_000,
    })
  })

  test('may set a variable to nothing, which counts as unset', () => {
    expect(readConfig({ PORT: '', MODEL: ' ', API_KEYS: '', S3_BUCKET: '' })).toEqual(readConfig({}))
  })

  test('gives lists as arrays, and URLs without a trailing slash', () => {
    const config = readConfig({
      PUBLIC_URL: 'https://a.example/easel/',
      API_KEYS: 'first-key, second-key',
      CORS_ORIGINS: 'https://a.example,https://b.example',
    })
    expect(config.publicUrl).toBe('https://a.example/easel')
    expect(config.apiKeys).toHaveLength(2)
    expect(config.corsOrigins).toEqual(['https://a.example', 'https://b.example'])
    expect(readConfig({ PORT: '9000' }).publicUrl).toBe('http://localhost:9000')
  })

  test('gives origins in the form that browsers send, and refuses those that could never match', () => {
    const written = 'https://A.example/, HTTPS://b.example:443,http://c.example:8080,https://a.example,https://b\u00fccher.example'
    expect(readConfig({ CORS_ORIGINS: written }).corsOrigins).toEqual([
      'https://a.example',
      'https://b.example',
      'http://c.example:8080',
      'https://xn--bcher-kva.example',
    ])
    for (const wrong of [
      'a.example',
      'https://*.a.example',
      'https://a.example/app',
      'https://a.example?x',
      'ftp://a.example',
      'null',
      '//a.example',
      'localhost:3000',
    ]) {
      expect(() => readConfig({ CORS_ORIGINS: `https://ok.example,${wrong}` })).toThrow(`got ${wrong}`)
      expect(() => readConfig({ CORS_ORIGINS: wrong })).toThrow(/^CORS_ORIGINS: Expected/)
    }
  })

  test('may name the model as MODEL or as MODEL_PATH, which are one variable', () => {
    expect(readConfig({ MODEL: '/models/tiny-scenes/' }).defaultModel).toBe('tiny-scenes')
    expect(readConfig({ MODEL_PATH: 'stabilityai/stable-diffusion-3.5-medium' }).defaultModel).toBe(
      'stabilityai/stable-diffusion-3.5-medium',
    )
    expect(readConfig({ MODEL: 'a', MODEL_PATH: 'a' }).defaultModel).toBe('a')
    expect(() => readConfig({ MODEL: 'a', MODEL_PATH: 'b' })).toThrow(/MODEL_PATH: Expected the same as MODEL \(a\), got b/)
  })

  test('reports a missing or invalid file of keys together with the other variables', () => {
    const file = '/nowhere/easel-keys'
    expect(() => readConfig({ PORT: '70000', API_KEYS: 'short', API_KEYS_FILE: file })).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^PORT: .*\nAPI_KEYS: .*\nAPI_KEYS_FILE: ENOENT.*$/) as string }) as Error,
    )
    expect(() => readConfig({ API_KEYS_FILE: file })).toThrow(/^API_KEYS_FILE: ENOENT/)
    expect(() => readConfig({ API_KEYS_FILE: '/dev/null' })).toThrow(/^API_KEYS_FILE: Expected at least one key, got none$/)
  })

  test('reads the file of keys once, and checks it together with API_KEYS', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'easel-keys-'))
    const file = join(folder, 'keys')
    await writeFile(file, 'alice:second-key')
    const config = readConfig({ API_KEYS: 'alice:first-key', API_KEYS_FILE: file })
    await writeFile(file, 'bob:third-key')
    const owners = () => ring.keys.map(({ owner }) => owner)
    const ring = new ApiKeyRing(config.apiKeys, config.apiKeysFile)
    expect(owners()).toEqual(['alice', 'alice'])
    ring.reload()
    expect(owners()).toEqual(['alice', 'bob'])
    await writeFile(file, 'alice*2:second-key')
    const heavier = /^API_KEYS_FILE: Expected one weight for all keys of alice, got 1 and 2$/
    expect(() => readConfig({ API_KEYS: 'alice:first-key', API_KEYS_FILE: file })).toThrow(heavier)
    expect(() => ring.reload()).toThrow(heavier)
    expect(owners()).toEqual(['alice', 'bob'])
    await rm(folder, { recursive: true })
  })

  test('reports all problems at once, each with the name of its variable', () => {
    const wrong = {
      PORT: '70000',
      PUBLIC_URL: 'ftp://x',
      REDIS_URL: 'localhost',
      RESULT_TTL: '-1',
      MAX_PROMPT_LENGTH: 'many',
      LOG_LEVEL: 'loud',
      WEBHOOK_ALLOW_INSECURE: 'perhaps',
      WEBHOOK_RETRY_DELAYS: '1,x',
      STORAGE: 'ftp',
      SHUTDOWN_GRACE: '-1',
      MODEL: 'a',
      MODEL_PATH: 'b',
    }
    const told = problemsOf(wrong)
    const names = Object.keys(wrong).filter((name) => name !== 'MODEL')
    expect(new Set(told.map((line) => line.split(': ')[0]))).toEqual(new Set(names))
  })

  test('reports a value that is not a number as it was written', () => {
    expect(problemsOf({ PORT: 'eight' })).toEqual(['PORT: Invalid input: expected number, received "eight"'])
  })

  test('has a description for every variable', () => {
    for (const [name, schema] of Object.entries(apiVariables)) expect([name, (schema.description ?? '').length > 10]).toEqual([name, true])
  })
})

function problemsOf(env: Record<string, string>): string[] {
  try {
    readConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.message.split('\n')
    throw error
  }
  return []
}
