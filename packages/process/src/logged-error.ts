/**
 * What of an error may stand in a log. ioredis hangs the command that was refused on its errors, and what it was sent is in there: passwords,
 * prompts, the URLs of webhooks. So a few fields are taken by name, and nothing else that an error may carry. Runs in both services.
 */

/** As pino's own serializer gives it, with the causes in message and stack. */
interface SerializedError {
  type: string
  message: string
  stack: string
  code?: string | number
  /** Of a Redis Cluster without a node that answers: what the last one said. */
  lastNodeError?: SerializedError
}

export function toLoggedError({ type, message, stack, code, lastNodeError }: SerializedError): SerializedError {
  return {
    type,
    message,
    stack,
    ...(code === undefined ? {} : { code }),
    ...(lastNodeError === undefined ? {} : { lastNodeError: toLoggedError(lastNodeError) }),
  }
}
