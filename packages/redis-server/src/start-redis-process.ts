/**
 * Owns one real Redis server as a child process: runs the system's own binary (or a container where there is none) on a port of 127.0.0.1.
 *
 * Invariant: the server ends when the process that started it ends in any way, including SIGKILL. It never touches a server that was already
 * running. Knows nothing about queues, jobs or clients. Runs in `easel start`, in the demo and in test processes.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { findDocker, findRedisServer } from './find-redis-server.ts'

export interface RedisProcessOptions {
  /** TCP port on 127.0.0.1, 1–65535. */
  port: number
  /** The folder for the data. It is created if missing, and never deleted. */
  dir: string
  /** Write every change to an append-only file, so that a crash loses at most the last second. Default: false. */
  appendonly?: boolean
  /** Further server options, as on its command line, such as `['--maxclients', '20']`. Default none. */
  args?: string[]
  /**
   * Whether to run in its own process group, which Ctrl-C in a terminal does not reach, for a starter that ends its processes one after another.
   * Default false.
   */
  detached?: boolean
  /** The image of the container, used where no binary is found. Default: valkey/valkey:8.1.3. */
  image?: string
}

export interface RedisProcess {
  /** Resolves when the server has ended. */
  readonly ended: Promise<void>
  /** Sends the server a signal; does nothing once it has ended. */
  signal(name: NodeJS.Signals): void
  /** Shuts down cleanly. May be called twice. */
  stop(): Promise<void>
}

/**
 * A shell that becomes the server after starting a second shell, which waits until file descriptor 3 is closed. That is a pipe whose other
 * end only the starter holds, so it closes when the starter is gone. A line on it says that the server has ended by itself. SIGCONT lets a
 * stopped server receive its SIGTERM.
 */
const lifelineScript = '(read -r _ <&3 || { kill -TERM $$; kill -CONT $$; }) >/dev/null 2>&1 & exec "$@" 3<&-'

/** Whether an error of `startRedisProcess` means that another process listens on the port. */
export function isPortTaken(error: unknown): boolean {
  return /already (in use|allocated)/.test(String(error))
}

/** Resolves when the server accepts connections; rejects with its output when it ends before that. */
export async function startRedisProcess(options: RedisProcessOptions): Promise<RedisProcess> {
  await mkdir(options.dir, { recursive: true })
  const binary = findRedisServer()
  if (binary !== undefined) return await runBinary(binary, options)
  const docker = findDocker()
  if (docker !== undefined) return await runContainer(docker, options)
  throw new Error('Expected valkey-server or redis-server on PATH, or a running Docker engine, got neither: install one of them')
}

async function runBinary(binary: string, options: RedisProcessOptions): Promise<RedisProcess> {
  const { port, dir, detached = false } = options
  const child = spawnOnLifeline([binary, '--port', String(port), '--bind', '127.0.0.1', '--dir', dir, ...toServerArgs(options)], detached)
  return await untilReady(child, (name) => void child.kill(name))
}

async function runContainer(docker: string, options: RedisProcessOptions): Promise<RedisProcess> {
  const { port, dir, image = 'valkey/valkey:8.1.3' } = options
  const name = `easel-redis-${process.pid}-${port}`
  const user = process.getuid === undefined ? [] : ['--user', `${process.getuid()}:${process.getgid?.()}`]
  const container = ['run', '--rm', '--name', name, ...user, '--publish', `127.0.0.1:${port}:6379`, '--volume', `${dir}:/data`, image]
  // The image may contain either server; both have the old name too.
  const server = ['redis-server', '--protected-mode', 'no', '--dir', '/data', ...toServerArgs(options)]
  const child = spawnOnLifeline([docker, ...container, ...server], true)
  return await untilReady(child, (signal) => void spawnSync(docker, ['kill', '--signal', signal, name], { stdio: 'ignore' }))
}

function spawnOnLifeline(command: string[], detached: boolean): ChildProcess {
  return spawn('sh', ['-c', lifelineScript, 'sh', ...command], { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], detached })
}

function toServerArgs({ appendonly = false, args = [] }: RedisProcessOptions): string[] {
  return ['--save', '', '--appendonly', appendonly ? 'yes' : 'no', '--maxmemory-policy', 'noeviction', '--daemonize', 'no', ...args]
}

async function untilReady(child: ChildProcess, send: (signal: NodeJS.Signals) => void): Promise<RedisProcess> {
  let hasEnded = false
  const lifeline = child.stdio[3] as Writable | undefined
  // The shell may have ended before the line is written.
  lifeline?.on('error', () => {})
  const ended = new Promise<void>((resolve) => {
    const finish = () => {
      hasEnded = true
      lifeline?.end('\n')
      resolve()
    }
    child.once('exit', finish)
    child.once('error', finish)
  })
  await new Promise<void>((resolve, reject) => {
    let log = ''
    const read = (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4000)
      if (log.includes('Ready to accept connections')) resolve()
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('error', reject)
    child.once('close', (code) => reject(new Error(`Expected the Redis server to start, got exit code ${code}:\n${log}`)))
  })
  const signal = (name: NodeJS.Signals) => {
    if (!hasEnded) send(name)
  }
  return {
    ended,
    signal,
    async stop() {
      signal('SIGTERM')
      await ended
    },
  }
}
