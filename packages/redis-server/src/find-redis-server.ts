/** Finds what can run a Redis server on this machine: a server's own binary, or Docker. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where distributions put the server, in case a plain user's PATH does not contain the folder. */
const systemFolders = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/opt/homebrew/bin']

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

function findExecutable(name: string): string | undefined {
  // oxlint-disable-next-line node/no-process-env -- PATH is how a system says where its programs are.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...systemFolders]
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
