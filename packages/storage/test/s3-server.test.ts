import { afterEach, expect, test, vi } from 'vitest'
import { startS3Server } from './s3-server.ts'

afterEach(() => {
  vi.unstubAllEnvs()
})

test('a given server is used as it is, and can be neither stopped nor frozen', async () => {
  vi.stubEnv('S3_TEST_ENDPOINT', 'http://127.0.0.1:9')
  vi.stubEnv('S3_TEST_ACCESS_KEY_ID', 'key')
  vi.stubEnv('S3_TEST_SECRET_ACCESS_KEY', 'secret')
  const server = await startS3Server()
  if ('skipped' in server) throw new Error(server.skipped)
  expect(server).toMatchObject({ endpoint: 'http://127.0.0.1:9', accessKeyId: 'key', secretAccessKey: 'secret', source: 'given' })
  for (const act of ['kill', 'restart', 'pause', 'resume'] as const) await expect(server[act]()).rejects.toThrow('not ours to stop')
  await server.stop()
})

test('a given endpoint without credentials is refused', async () => {
  vi.stubEnv('S3_TEST_ENDPOINT', 'http://127.0.0.1:9')
  vi.stubEnv('S3_TEST_ACCESS_KEY_ID', undefined)
  await expect(startS3Server()).rejects.toThrow('Expected S3_TEST_ACCESS_KEY_ID and S3_TEST_SECRET_ACCESS_KEY')
})
