/**
 * Logs an outage of a server that several connections of a process use: one line when it begins, one when all connections are back. Failures
 * in between are logged at debug level only. A failure may be reported before the connections have noticed the outage, or after they are
 * back, so it is judged a moment later. Knows nothing about where the connections lead.
 */
import type { Logger } from 'pino'

/** The part of a connection that matters here, as in ioredis. */
interface WatchedConnection {
  /** `ready` while commands are answered. */
  readonly status: string
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'ready', listener: () => void): unknown
}

/** An outage is noticed at most this many milliseconds after a failure that it causes, and such failures are reported at most this long after it. */
const momentMs = 500

export class OutageLog {
  readonly #name: string
  readonly #logger: Logger
  readonly #watched = new Set<WatchedConnection>()
  /** The connections that have failed and not come back. There is no outage when it is empty. */
  readonly #away = new Set<WatchedConnection>()
  #sinceMs = 0
  /** When a connection was last lost or restored. */
  #changedMs = -Infinity

  /** `name`: the name of the server, with which the log lines begin. */
  constructor(name: string, logger: Logger) {
    this.#name = name
    this.#logger = logger
  }

  watch(connection: WatchedConnection): void {
    this.#watched.add(connection)
    connection.on('error', (error) => this.#fail(connection, error))
    connection.on('ready', () => this.#recover(connection))
  }

  /**
   * Logs a failure that an outage may have caused, after a moment: as a warning, unless a connection was down at about that time, in which case
   * the line about the outage is enough.
   */
  report(error: unknown, message: string, fields: object = {}): void {
    const reportedMs = performance.now()
    const wasDown = this.#isDown()
    setTimeout(() => {
      const isOfOutage = wasDown || this.#isDown() || this.#changedMs > reportedMs - momentMs
      this.#logger[isOfOutage ? 'debug' : 'warn']({ err: error, ...fields }, message)
    }, momentMs)
  }

  #isDown(): boolean {
    return [...this.#watched].some(({ status }) => status !== 'ready')
  }

  #fail(connection: WatchedConnection, error: Error): void {
    this.#changedMs = performance.now()
    if (this.#away.size > 0) this.#logger.debug({ err: error }, `${this.#name} is still away`)
    else {
      this.#sinceMs = performance.now()
      this.#logger.warn({ reason: toReason(error) }, `${this.#name} does not answer; waiting until it is back`)
    }
    this.#away.add(connection)
  }

  #recover(connection: WatchedConnection): void {
    if (!this.#away.delete(connection)) return
    this.#changedMs = performance.now()
    if (this.#away.size > 0) return
    this.#logger.info({ awayMs: Math.round(performance.now() - this.#sinceMs) }, `${this.#name} is back`)
  }
}

/** The error of a socket that tried several addresses has no message of its own. */
function toReason({ message, code }: NodeJS.ErrnoException): string {
  return message === '' ? (code ?? 'no connection') : message
}
