/**
 * Owns the choice of a real S3 server for tests: a given server, else a container, else versitygw as a process.
 *
 * In this order: `S3_TEST_ENDPOINT` (with `S3_TEST_ACCESS_KEY_ID`, `S3_TEST_SECRET_ACCESS_KEY`); the image named by `S3_IMAGE`, if it exists
 * or can be pulled within 60 s; versitygw in the project's `.bin`, built there by `go install` if Go is installed. Otherwise the result and
 * a warning say why tests must be skipped.
 * Invariant: a server started here is gone when its starter has called `stop()` or has exited; it begins empty, without a bucket.
 * Runs in test processes. The first build takes up to two minutes: give the hook that starts a server `s3ServerStartTimeoutMs`.
 */
import { startS3Container } from './s3-container.ts'
import type { NoS3Server, S3Server, S3ServerOptions } from './server-under-test.ts'
import { startVersitygw } from './versitygw.ts'

export type { NoS3Server, S3Server, S3ServerOptions }

/** Enough time to try to pull an image and then to build versitygw on a slow machine, in ms. */
export const s3ServerStartTimeoutMs = 360_000

export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server | NoS3Server> {
  const given = findGivenServer()
  if (given !== undefined) return given
  const reasons = ['S3_TEST_ENDPOINT is not set']
  for (const start of [startS3Container, startVersitygw]) {
    const server = await start(options)
    if (!('skipped' in server)) return server
    reasons.push(server.skipped)
  }
  const skipped = `No S3 server for the tests: ${reasons.join('; ')}`
  // oxlint-disable-next-line no-console -- a skipped test must show in the output, whatever the reporter
  console.warn(`\n*** SKIPPED *** ${skipped}\n`)
  return { skipped }
}

function findGivenServer(): S3Server | undefined {
  const { S3_TEST_ENDPOINT: endpoint, S3_TEST_ACCESS_KEY_ID: accessKeyId, S3_TEST_SECRET_ACCESS_KEY: secretAccessKey } = process.env
  if (endpoint === undefined || endpoint === '') return undefined
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new Error('Expected S3_TEST_ACCESS_KEY_ID and S3_TEST_SECRET_ACCESS_KEY beside S3_TEST_ENDPOINT, got only the endpoint')
  }
  const refuse = async () => {
    throw new Error(`Expected a server started by the tests, got the given one at ${endpoint}: it is not ours to stop`)
  }
  return {
    endpoint,
    accessKeyId,
    secretAccessKey,
    source: 'given',
    stop: async () => {},
    kill: refuse,
    restart: refuse,
    pause: refuse,
    resume: refuse,
  }
}
