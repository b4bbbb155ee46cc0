/** Listens on a port that the operator chose. An error about the choice names its variables. */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ConfigError } from './config.ts'

export interface ListenOptions {
  /** Undefined for all addresses of the machine. */
  host: string | undefined
  /** 0: a free one. */
  port: number
  /** The names of the variables from which `host` and `port` come. */
  variables: { host: string; port: string }
}

/** Resolves to the port. Throws a `ConfigError` when the system refuses the host or the port. */
export async function listen(server: Server, { host, port, variables }: ListenOptions): Promise<number> {
  server.listen(port, host)
  try {
    await once(server, 'listening')
  } catch (error) {
    throw toConfigError(error as NodeJS.ErrnoException, { host, port, variables })
  }
  return (server.address() as AddressInfo).port
}

function toConfigError(error: NodeJS.ErrnoException, { host, port, variables }: ListenOptions): Error {
  const { code = '' } = error
  if (code === 'EADDRINUSE')
    return new ConfigError(`${variables.port}: Expected a free port, got ${port}, which another process listens on`)
  if (code === 'EACCES') return new ConfigError(`${variables.port}: Expected a port that this user may listen on, got ${port}`)
  if (['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN', 'EINVAL'].includes(code))
    return new ConfigError(`${variables.host}: Expected an address of this machine, such as 127.0.0.1 or 0.0.0.0, got ${host}`)
  return error
}
