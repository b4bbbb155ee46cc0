/**
 * Owns a process of versitygw, an S3 server on a folder: finds or builds the binary, runs it on a free port and ends it.
 *
 * The folder must be on a file system with user extended attributes, where versitygw keeps content types.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, rmSync } from 'node:fs'
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findFreePort } from '@easel/redis-server'
import { type NoS3Server, type S3Server, type S3ServerOptions, waitForAnswer } from './server-under-test.ts'

const module = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0'
const bin = resolve(import.meta.dirname, '../../../.bin')
const binary = join(bin, 'versitygw')
const buildTimeoutMs = 280_000
/** Another process may take a free port before the server binds it, so several are tried. */
const portAttempts = 3
const rootKeyId = 'easel-test'
const rootSecret = 'easel-test-secret'

export async function startVersitygw(options: S3ServerOptions): Promise<S3Server | NoS3Server> {
  try {
    await buildOnce()
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim().split('\n').slice(-2).join(' ') : String(error)
    return { skipped: `versitygw is not in .bin and could not be built with Go (${reason})` }
  }
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'easel-s3-')))
  const removeDir = () => {
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true })
  }

  let port = await findFreePort()
  let running: ChildProcess
  for (let attempt = 1; ; attempt++) {
    try {
      running = await launch(port, dir)
      break
    } catch (error) {
      if (attempt === portAttempts || !String(error).includes('address already in use')) {
        removeDir()
        throw error
      }
      port = await findFreePort()
    }
  }

  return {
    endpoint: toEndpoint(port),
    accessKeyId: rootKeyId,
    secretAccessKey: rootSecret,
    source: 'process',
    async stop() {
      await end(running)
      removeDir()
    },
    kill: () => end(running),
    async restart() {
      await end(running)
      running = await launch(port, dir)
    },
    async pause() {
      running.kill('SIGSTOP')
      while (!(await isStopped(running.pid as number))) await delay(5)
    },
    async resume() {
      running.kill('SIGCONT')
    },
  }
}

/** Whether every thread of a process has stopped: the signal reaches one thread, and the others may still serve a request until it reaches them. */
async function isStopped(pid: number): Promise<boolean> {
  const tasks = `/proc/${pid}/task`
  const states = await Promise.all(
    (await readdir(tasks)).map(async (id) => {
      const status = await readFile(join(tasks, id, 'stat'), 'utf8').catch(() => '')
      // The state follows the name, which is in parentheses and may contain any character.
      return status.slice(status.lastIndexOf(')') + 2, status.lastIndexOf(')') + 3)
    }),
  )
  return states.every((state) => state === 'T')
}

const toEndpoint = (port: number) => `http://127.0.0.1:${port}`

async function launch(port: number, dir: string): Promise<ChildProcess> {
  const args = ['--port', `127.0.0.1:${port}`, '--keep-alive', '--quiet', 'posix', dir]
  const env = { ...process.env, ROOT_ACCESS_KEY: rootKeyId, ROOT_SECRET_KEY: rootSecret }
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
  const killAtExit = () => child.kill('SIGKILL')
  process.once('exit', killAtExit)
  child.once('close', () => process.off('exit', killAtExit))
  let log = ''
  const read = (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4000)
  }
  child.stdout.on('data', read)
  child.stderr.on('data', read)
  child.once('error', (error) => {
    log += String(error)
  })
  try {
    await waitForAnswer(toEndpoint(port), () => (hasEnded(child) ? log : undefined))
  } catch (error) {
    await end(child)
    throw error
  }
  return child
}

const hasEnded = (child: ChildProcess) => child.pid === undefined || child.exitCode !== null || child.signalCode !== null

async function end(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return
  const closed = once(child, 'close')
  child.kill('SIGKILL')
  await closed
}

/** Test files run at the same time in processes of their own: the first one builds, the others wait for it. */
async function buildOnce(): Promise<void> {
  if (isExecutable(binary)) return
  await mkdir(bin, { recursive: true })
  const lock = join(bin, 'versitygw.lock')
  for (;;) {
    try {
      await (await open(lock, 'wx')).close()
      break
    } catch {
      await delay(500)
      if (isExecutable(binary)) return
      // The process that was building it has been killed.
      if ((await ageMs(lock)) > buildTimeoutMs) await rm(lock, { force: true })
    }
  }
  const building = join(bin, `building-${process.pid}`)
  try {
    const env = { ...process.env, GOBIN: building, CGO_ENABLED: '0' }
    await promisify(execFile)('go', ['install', '-ldflags=-s -w', module], { env, timeout: buildTimeoutMs, maxBuffer: 64 * 1024 * 1024 })
    await rename(join(building, 'versitygw'), binary)
  } finally {
    await rm(building, { recursive: true, force: true })
    await rm(lock, { force: true })
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function ageMs(path: string): Promise<number> {
  try {
    return Date.now() - (await stat(path)).mtimeMs
  } catch {
    return 0
  }
}
