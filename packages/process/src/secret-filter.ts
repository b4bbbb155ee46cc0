/**
 * Removes the secrets of the environment from the log, however they got into it: a server may quote what it was sent, as Redis does with the
 * arguments of an unknown command, and a library may print a URL with its password. Log lines are built field by field and contain no
 * secrets anyway; this is the second line of defence. Runs in both services.
 */
import { readFileSync } from 'node:fs'
import type { Environment } from './config.ts'

/** The secret part of each variable. Both services know all of them, because they often share one environment file. */
const secretsOf: Record<string, (value: string) => string[]> = {
  REDIS_URL: (urls) => splitList(urls).flatMap(toPasswords),
  REDIS_SENTINEL_PASSWORD: (value) => [value],
  S3_SECRET_ACCESS_KEY: (value) => [value],
  AWS_SECRET_ACCESS_KEY: (value) => [value],
  AWS_SESSION_TOKEN: (value) => [value],
  API_KEYS: toKeys,
  API_KEYS_FILE: (path) => toKeys(readText(path)),
  ADMIN_KEY: (value) => [value],
  HF_TOKEN: (value) => [value],
  HTTPS_PROXY: toPasswords,
  WEBHOOK_SECRETS: splitList,
  OTEL_EXPORTER_OTLP_HEADERS: (headers) => splitList(headers).map((header) => header.slice(header.indexOf('=') + 1)),
}
/** Shorter secrets would match words and numbers that have nothing to do with them. */
const minLength = 8
const hidden = '[secret]'

/** Returns a function that removes the secrets of this environment from a line, both in plain and in JSON-escaped form. */
export function createSecretFilter(env: Environment): (line: string) => string {
  const found = Object.entries(secretsOf).flatMap(([name, toSecrets]) => toSecrets(env[name]?.trim() ?? ''))
  // The longest come first, because one may be part of another.
  const secrets = [...new Set(found)].filter(({ length }) => length >= minLength).toSorted((a, b) => b.length - a.length)
  const written = secrets.flatMap((secret) => [JSON.stringify(secret).slice(1, -1), secret])
  return (line) => written.reduce((text, secret) => text.replaceAll(secret, hidden), line)
}

/** The keys of entries such as `name:key`. */
function toKeys(entries: string): string[] {
  return splitList(entries).map((entry) => entry.slice(entry.indexOf(':') + 1))
}

/** The content of a file at the start. If it cannot be read it contributes no secret; the code that needs it reports the problem. */
function readText(path: string): string {
  try {
    return path === '' ? '' : readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** The items of a list separated by commas or line breaks. */
function splitList(text: string): string[] {
  return text.split(/[,\n]/).flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
}

/** The password of a URL, both as written and decoded. */
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
