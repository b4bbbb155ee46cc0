/**
 * Takes the secrets of the environment out of what is logged, wherever they got in: a server may quote what it was sent, as Redis does with
 * the arguments of a command that it does not know, and a library may write a URL with its password. Log lines are put together field by
 * field and name no secret; this stands behind that. Runs in both services.
 */
import { splitList } from './redis.ts'

/** What of a variable nobody may read. The same list in both services: one environment file often serves them together. */
const secretsOf: Record<string, (value: string) => string[]> = {
  REDIS_URL: (urls) => splitList(urls).flatMap(toPasswords),
  REDIS_SENTINEL_PASSWORD: (value) => [value],
  S3_SECRET_ACCESS_KEY: (value) => [value],
  AWS_SECRET_ACCESS_KEY: (value) => [value],
  AWS_SESSION_TOKEN: (value) => [value],
  API_KEYS: (keys) => splitList(keys).map((entry) => entry.slice(entry.indexOf(':') + 1)),
  ADMIN_KEY: (value) => [value],
  WEBHOOK_SECRETS: splitList,
  OTEL_EXPORTER_OTLP_HEADERS: (headers) => splitList(headers).map((header) => header.slice(header.indexOf('=') + 1)),
}
/** Shorter ones would be found in words and numbers that have nothing to do with them. */
const minLength = 8
const hidden = '[secret]'

/** A function for pino's `hooks.streamWrite`: gives the line, which is JSON, without the secrets of this environment. */
export function createSecretFilter(env: Readonly<Record<string, string | undefined>>): (line: string) => string {
  const found = Object.entries(secretsOf).flatMap(([name, toSecrets]) => toSecrets(env[name]?.trim() ?? ''))
  // The longest first: one may be part of another.
  const secrets = [...new Set(found)].filter(({ length }) => length >= minLength).toSorted((a, b) => b.length - a.length)
  const written = secrets.map((secret) => JSON.stringify(secret).slice(1, -1))
  return (line) => written.reduce((text, secret) => text.replaceAll(secret, hidden), line)
}

/** The password of a URL as it is written there and as it is meant. */
function toPasswords(url: string): string[] {
  const password = /^[^/]*\/\/[^:/?#]*:([^/?#]*)@/.exec(url)?.[1] ?? ''
  return [password, URL.parse(url)?.password ?? '', decode(password)]
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
