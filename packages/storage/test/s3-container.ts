/**
 * Owns an S3 server in a container: runs the image that `S3_IMAGE` names on a free port that stays the same over restarts.
 *
 * Knows RustFS, MinIO and any server that takes RustFS's variables; each gets the variables of both, and MinIO also its command.
 */
import { spawnSync } from 'node:child_process'
import { findFreePort } from '@easel/redis-server'
import { type NoS3Server, type S3Server, waitForAnswer } from './server-under-test.ts'

const pullTimeoutMs = 60_000
const containerPort = 9000
const containerKeyId = 'easel-test'
const containerSecret = 'easel-test-secret'

export async function startS3Container(): Promise<S3Server | NoS3Server> {
  const image = process.env['S3_IMAGE']
  if (image === undefined || image === '') return { skipped: 'S3_IMAGE names no container image' }
  // The reaper would be another image to pull; the container started here is removed below.
  process.env['TESTCONTAINERS_RYUK_DISABLED'] ??= 'true'
  const { GenericContainer, getContainerRuntimeClient, ImageName } = await import('testcontainers')
  let runtime: Awaited<ReturnType<typeof getContainerRuntimeClient>>
  try {
    runtime = await getContainerRuntimeClient()
    const name = ImageName.fromString(image)
    if (!(await runtime.image.exists(name))) await withTimeout(runtime.image.pull(name), pullTimeoutMs)
  } catch (error) {
    return { skipped: `the image ${image} is neither there nor pulled (${error instanceof Error ? error.message : String(error)})` }
  }

  const port = await findFreePort()
  const endpoint = `http://127.0.0.1:${port}`
  const container = new GenericContainer(image).withExposedPorts({ container: containerPort, host: port }).withEnvironment({
    RUSTFS_ACCESS_KEY: containerKeyId,
    RUSTFS_SECRET_KEY: containerSecret,
    MINIO_ROOT_USER: containerKeyId,
    MINIO_ROOT_PASSWORD: containerSecret,
  })
  const started = await (image.includes('minio') ? container.withCommand(['server', '/data']) : container).start()
  const handle = runtime.container.getById(started.getId())
  const removeAtExit = () => spawnSync('docker', ['rm', '--force', '--volumes', handle.id], { stdio: 'ignore' })
  process.once('exit', removeAtExit)
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await handle.remove({ force: true, v: true })
    process.off('exit', removeAtExit)
  }
  try {
    await waitForAnswer(endpoint, () => undefined)
  } catch (error) {
    await stop()
    throw error
  }

  return {
    endpoint,
    accessKeyId: containerKeyId,
    secretAccessKey: containerSecret,
    source: 'container',
    stop: () => (stopping ??= stop()),
    kill: () => handle.kill(),
    async restart() {
      await handle.restart({ t: 0 })
      await waitForAnswer(endpoint, () => undefined)
    },
    pause: () => handle.pause(),
    resume: () => handle.unpause(),
  }
}

async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs / 1000} s`)), timeoutMs)
  })
  try {
    return await Promise.race([work, timeout])
  } finally {
    clearTimeout(timer)
  }
}
