/**
 * Tells an outage of something that several connections of a process share: one line when it goes, one when all of it is back. What fails
 * meanwhile is said at debug level only. Knows nothing about what the connections lead to.
 */
import type { Logger } from 'pino'

/** The part of a connection that is looked at, as ioredis has it. */
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
  /** Connections that have failed and not come back. Empty: there is no outage. */
  readonly #away = new Set<WatchedConnection>()
  #sinceMs = 0

  /** `name`: of what goes away, the first word of its lines. */
  constructor(name: string, logger: Logger) {
    this.#name = name
    this.#logger = logger
  }

  watch(connection: WatchedConnection): void {
    this.#watched.add(connection)
    connection.on('error', (error) => this.#fail(connection, error))
    connection.on('ready', () => this.#recover(connection))
  }

  /** Something failed, perhaps because of an outage: a warning, unless a connection is down and says it for all. */
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

/** A socket that tried several addresses has no message of its own. */
function toReason({ message, code }: NodeJS.ErrnoException): string {
  return message === '' ? (code ?? 'no connection') : message
}
