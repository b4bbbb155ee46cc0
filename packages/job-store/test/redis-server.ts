/**
 * Owns one real Redis server: finds a binary (or Docker), runs it on a free port of this machine and ends it.
 *
 * Invariant: every server started here is gone when its starter has called `stop()` or has exited; it never touches a server that was
 * already running. Knows nothing about queues, jobs or clients. Runs in test processes and in the demo and start scripts.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, rmSync } from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

/** Where distributions put the server when PATH of a plain user does not name the folder. */
const SYSTEM_FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/opt/homebrew/bin']
/** A port that was free a moment ago can be taken by another process before the server binds it. */
const PORT_ATTEMPTS = 5

export interface RedisOptions {
  /** Write every change to an append-only file, so that `kill()` and `restart()` lose nothing. Default: false. */
  appendonly?: boolean
  /** TCP port on 127.0.0.1, 1–65535. Default: a free one. */
  port?: number
  /** Folder for the data, made if missing and never deleted. Default: a temporary one, deleted by `stop()`. */
  dir?: string
  /** Further server options, as on its command line: `['--maxclients', '20']`. Default: none. */
  args?: string[]
  /**
   * Run in a process group of its own, out of reach of a terminal's Ctrl-C, for a starter that ends its processes in order.
   * Default: false.
   */
  detached?: boolean
}

export interface RedisServer {
  /** `redis://127.0.0.1:PORT`; the same after `restart()`. */
  readonly url: string
  readonly port: number
  /** Shuts down in order and deletes the temporary folder. May be called twice. */
  stop(): Promise<void>
  /** Ends the process at once, as a crash would. The data folder stays for `restart()`. */
  kill(): Promise<void>
  /** Starts again on the same port and data folder; a server that still runs is shut down in order first. */
  restart(): Promise<void>
  /** Freezes the server: connections stay open and nothing answers. */
  pause(): void
  /** Ends `pause()`. */
  resume(): void
}

/** The path of a Redis-compatible server binary on this machine, or undefined. */
export function findRedisServer(): string | undefined {
  return findExecutable('valkey-server') ?? findExecutable('redis-server')
}

/** The path of a Docker client whose engine answers, or undefined. */
export function findDocker(): string | undefined {
  const docker = findExecutable('docker')
  if (docker === undefined) return undefined
  return spawnSync(docker, ['version'], { stdio: 'ignore', timeout: 10_000 }).status === 0 ? docker : undefined
}

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'easel-redis-')))
  const removeDir = () => {
    if (options.dir === undefined) rmSync(dir, { recursive: true, force: true })
  }
  const launcher = chooseLauncher()

  let port = options.port ?? (await findFreePort())
  const launch = async () => {
    await mkdir(dir, { recursive: true })
    return launcher.launch(port, dir, options)
  }

  let running: RunningServer
  for (let attempt = 1; ; attempt++) {
    try {
      running = await launch()
      break
    } catch (error) {
      if (options.port !== undefined || attempt === PORT_ATTEMPTS || !/already (in use|allocated)/.test(String(error))) {
        removeDir()
        throw error
      }
      port = await findFreePort()
    }
  }

  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    async stop() {
      await running.end('SIGTERM')
      removeDir()
    },
    kill: () => running.end('SIGKILL'),
    async restart() {
      await running.end('SIGTERM')
      running = await launch()
    },
    pause: () => running.freeze(),
    resume: () => running.thaw(),
  }
}

interface RunningServer {
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  freeze(): void
  thaw(): void
}

interface Launcher {
  launch(port: number, dir: string, options: RedisOptions): Promise<RunningServer>
}

function chooseLauncher(): Launcher {
  const binary = findRedisServer()
  if (binary !== undefined) return { launch: (port, dir, options) => launchBinary(binary, port, dir, options) }
  const docker = findDocker()
  if (docker !== undefined) return { launch: (port, dir, options) => launchContainer(docker, port, dir, options) }
  throw new Error('Expected valkey-server or redis-server on PATH, or a running Docker engine, got neither: install one of them')
}

async function launchBinary(binary: string, port: number, dir: string, options: RedisOptions): Promise<RunningServer> {
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir, ...toServerArgs(options)]
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: options.detached === true })
  const signal = (name: NodeJS.Signals) => void child.kill(name)
  return superviseServer(child, { end: signal, freeze: () => signal('SIGSTOP'), thaw: () => signal('SIGCONT') })
}

async function launchContainer(docker: string, port: number, dir: string, options: RedisOptions): Promise<RunningServer> {
  const image = process.env['REDIS_IMAGE'] ?? 'valkey/valkey:8.1.3'
  const name = `easel-redis-${process.pid}-${port}`
  const user = process.getuid === undefined ? [] : ['--user', `${process.getuid()}:${process.getgid?.()}`]
  const container = ['run', '--rm', '--name', name, ...user, '--publish', `127.0.0.1:${port}:6379`, '--volume', `${dir}:/data`, image]
  // The image may hold either server; both answer to the old name.
  const server = ['redis-server', '--protected-mode', 'no', '--dir', '/data', ...toServerArgs(options)]
  const child = spawn(docker, [...container, ...server], { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const docked = (...args: string[]) => void spawnSync(docker, args, { stdio: 'ignore' })
  return superviseServer(child, {
    end: (signal) => docked('kill', '--signal', signal, name),
    freeze: () => docked('pause', name),
    thaw: () => docked('unpause', name),
  })
}

function toServerArgs(options: RedisOptions): string[] {
  const appendonly = options.appendonly === true ? 'yes' : 'no'
  return ['--save', '', '--appendonly', appendonly, '--maxmemory-policy', 'noeviction', '--daemonize', 'no', ...(options.args ?? [])]
}

interface Controls {
  end(signal: 'SIGTERM' | 'SIGKILL'): void
  freeze(): void
  thaw(): void
}

/** Resolves when the server accepts connections; rejects with its last words when it ends before. */
async function superviseServer(child: ChildProcess, controls: Controls): Promise<RunningServer> {
  const killAtExit = () => controls.end('SIGKILL')
  process.once('exit', killAtExit)
  const ended = new Promise<void>((resolve) => {
    const finish = () => {
      process.off('exit', killAtExit)
      resolve()
    }
    child.once('close', finish)
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

  let frozen = false
  const setFrozen = (wanted: boolean) => {
    if (frozen === wanted) return
    frozen = wanted
    if (wanted) controls.freeze()
    else controls.thaw()
  }
  return {
    async end(signal) {
      setFrozen(false)
      if (child.exitCode === null && child.signalCode === null) controls.end(signal)
      await ended
    },
    freeze: () => setFrozen(true),
    thaw: () => setFrozen(false),
  }
}

/** A TCP port on 127.0.0.1 that nobody listens on at this moment. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function findExecutable(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_FOLDERS]
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}
