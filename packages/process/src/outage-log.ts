/**
 * Tells an outage of something that several connections of a process share: one line when it goes, one when all of it is back. What fails
 * meanwhile is said at debug level only. Knows nothing about what the connections lead to.
 */
import type { Logger } from 'pino'

export class OutageLog {
  readonly #name: string
  readonly #logger: Logger
  /** Connections that have failed and not come back. Empty: there is no outage. */
  readonly #away = new Set<object>()
  #sinceMs = 0

  /** `name`: of what goes away, the first word of its lines. */
  constructor(name: string, logger: Logger) {
    this.#name = name
    this.#logger = logger
  }

  /** The connection has failed, perhaps once more. */
  fail(connection: object, error: unknown): void {
    if (this.#away.size > 0) this.#logger.debug({ err: error }, `${this.#name} is still away`)
    else {
      this.#sinceMs = performance.now()
      this.#logger.warn({ reason: toReason(error) }, `${this.#name} does not answer; waiting until it is back`)
    }
    this.#away.add(connection)
  }

  /** The connection works, perhaps as before. */
  recover(connection: object): void {
    if (!this.#away.delete(connection) || this.#away.size > 0) return
    this.#logger.info({ awayMs: Math.round(performance.now() - this.#sinceMs) }, `${this.#name} is back`)
  }
}

/** Sockets that tried several addresses say nothing in their own message. */
function toReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code = '' } = error as NodeJS.ErrnoException
  return error.message === '' ? code : error.message
}
