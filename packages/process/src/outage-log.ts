/**
 * Logs an outage of something that several connections of a process use: one line when it begins, one when all connections are back. What
 * fails in between is logged at debug level only. Knows nothing about where the connections lead.
 */
import type { Logger } from 'pino'

/** The part of a connection that matters here, as in ioredis. */
interface WatchedConnection {
  /** `ready` while commands are answered. */
  readonly status: string
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'ready', listener: () => void): unknown
}

export class OutageLog {
  readonly #name: string
  readonly #logger: Logger
  readonly #watched = new Set<WatchedConnection>()
  /** The connections that have failed and not come back. There is no outage when it is empty. */
  readonly #away = new Set<WatchedConnection>()
  #sinceMs = 0

  /** `name`: the name of what may go away, with which its log lines begin. */
  constructor(name: string, logger: Logger) {
    this.#name = name
    this.#logger = logger
  }

  watch(connection: WatchedConnection): void {
    this.#watched.add(connection)
    connection.on('error', (error) => this.#fail(connection, error))
    connection.on('ready', () => this.#recover(connection))
  }

  /** Logs a failure that an outage may have caused: as a warning, unless a connection is down and its line stands for all. */
  report(error: unknown, message: string, fields: object = {}): void {
    const isDown = [...this.#watched].some(({ status }) => status !== 'ready')
    this.#logger[isDown ? 'debug' : 'warn']({ err: error, ...fields }, message)
  }

  #fail(connection: WatchedConnection, error: Error): void {
    if (this.#away.size > 0) this.#logger.debug({ err: error }, `${this.#name} is still away`)
    else {
      this.#sinceMs = performance.now()
      this.#logger.warn({ reason: toReason(error) }, `${this.#name} does not answer; waiting until it is back`)
    }
    this.#away.add(connection)
  }

  #recover(connection: WatchedConnection): void {
    if (!this.#away.delete(connection) || this.#away.size > 0) return
    this.#logger.info({ awayMs: Math.round(performance.now() - this.#sinceMs) }, `${this.#name} is back`)
  }
}

/** The error of a socket that tried several addresses has no message of its own. */
function toReason({ message, code }: NodeJS.ErrnoException): string {
  return message === '' ? (code ?? 'no connection') : message
}
