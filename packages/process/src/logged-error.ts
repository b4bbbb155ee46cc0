/**
 * The parts of an error that may be logged. ioredis attaches the refused command to its errors, with its arguments: passwords, prompts, the
 * URLs of webhooks. So only a few fields are taken, by name, and nothing else that an error may carry. Runs in both services.
 */

/** As given by pino's own serializer, with the causes in message and stack. */
interface SerializedError {
  type: string
  message: string
  stack: string
  code?: string | number
  /** What the last node said, for a Redis Cluster in which no node answers. */
  lastNodeError?: SerializedError
}

export function toLoggedError({ type, message, stack, code, lastNodeError }: SerializedError): SerializedError {
  return {
    type,
    message,
    stack,
    code,
    lastNodeError: lastNodeError && toLoggedError(lastNodeError),
  }
}
