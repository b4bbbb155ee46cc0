/**
 * Takes the secrets of the environment out of what is logged, however they got there: a server may quote what it was sent, as Redis does
 * with the arguments of a command that it does not know, and a library may write a URL with its password. Log lines are put together field
 * by field and name no secret; this is the second line of defence. Runs in both services.
 */
import { readFileSync } from 'node:fs'
import type { Environment } from './config.ts'

/** The part of each variable that nobody may read. Both services know all of them, because one environment file often serves both. */
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
/** Shorter ones would be found in words and numbers that have nothing to do with them. */
const minLength = 8
const hidden = '[secret]'

/** Gives a line without the secrets of this environment, as they are and as JSON writes them. */
export function createSecretFilter(env: Environment): (line: string) => string {
  const found = Object.entries(secretsOf).flatMap(([name, toSecrets]) => toSecrets(env[name]?.trim() ?? ''))
  // The longest first: one may be part of another.
  const secrets = [...new Set(found)].filter(({ length }) => length >= minLength).toSorted((a, b) => b.length - a.length)
  const written = secrets.flatMap((secret) => [JSON.stringify(secret).slice(1, -1), secret])
  return (line) => written.reduce((text, secret) => text.replaceAll(secret, hidden), line)
}

/** The keys of entries such as `name:key`. */
function toKeys(entries: string): string[] {
  return splitList(entries).map((entry) => entry.slice(entry.indexOf(':') + 1))
}

/** A file as it is at the start. One that cannot be read holds no secret; whoever needs it says so. */
function readText(path: string): string {
  try {
    return path === '' ? '' : readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** The parts of a list written with commas or as lines. */
function splitList(text: string): string[] {
  return text.split(/[,\n]/).flatMap((part) => (part.trim() === '' ? [] : [part.trim()]))
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
