/** Owns the life of the S3 server that one test file uses. */
import { afterAll, expect, test } from 'vitest'
import { type S3Server, startS3Server } from './s3-server.ts'

/**
 * Starts a server, defines the tests that use it, and stops it after them; without a server one skipped test says why. Must be awaited at
 * the top of a test file, because whether there is a server decides which tests exist.
 */
export async function describeWithS3Server(name: string, defineTests: (server: S3Server) => void): Promise<void> {
  const server = await startS3Server()
  if ('skipped' in server) {
    test(`${name} needs a server`, ({ skip }) => {
      skip(server.skipped)
      expect.unreachable()
    })
    return
  }
  // Hooks run in reverse order, so what the tests open is closed before the server ends.
  afterAll(() => server.stop())
  defineTests(server)
}
