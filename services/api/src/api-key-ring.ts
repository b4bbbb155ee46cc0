/**
 * The API keys that are accepted now: those in `API_KEYS` and those in the file named by `API_KEYS_FILE`, which can be read again while the api
 * runs. Invariant: once there are keys, there is always at least one, so that no mistake in a file opens the api to everyone. Knows nothing
 * about HTTP. Runs in the api.
 */
import { timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { z } from 'zod'
import { ConfigError } from '@easel/process'
import { checkApiKeys, hashKey, parseApiKeysFile } from './parse-api-keys.ts'
import type { ApiKey } from './parse-api-keys.ts'

export interface ApiKeyRing {
  /** The present keys; empty when no key is needed. */
  readonly keys: readonly ApiKey[]
  /** The key that was presented; undefined when it is not one of these. */
  find(presented: string): ApiKey | undefined
  /** Whether the first owner is the hash of one of the second owner's keys, which owned jobs before names did. */
  isFormerly(recorded: string, owner: string): boolean
  /** The hashes of an owner's keys, which owned its jobs before its name did; empty for an owner without a name. */
  formerOwnersOf(owner: string): readonly string[]
  /** The weight of an owner in the fair share; 1 for an owner without a key here. */
  weightOf(owner: string): number
  /** The number of owners among the keys. */
  countOwners(): number
  /** Reads the file again. Throws a `ConfigError`, and leaves the keys as they are, when it cannot be read or is wrong. */
  reload(): void
}

/** The file that `API_KEYS_FILE` names, with the keys that were in it when it was read. */
export interface ApiKeysFile {
  readonly path: string
  readonly keys: readonly ApiKey[]
}

export function readApiKeysFile(path: string): ApiKeysFile {
  return { path, keys: parseApiKeysFile(readFileSync(path, 'utf8')) }
}

/** `configured`: the keys of `API_KEYS`. `file`: undefined when there is none. */
export function createApiKeyRing(configured: readonly ApiKey[], file: ApiKeysFile | undefined): ApiKeyRing {
  let keys = [...configured, ...(file?.keys ?? [])]
  return {
    get keys() {
      return keys
    },
    find(presented) {
      const hash = hashKey(presented)
      // Compares with all of them, so that the time does not reveal which one came close.
      return keys.filter((key) => timingSafeEqual(key.hash, hash))[0]
    },
    isFormerly: (recorded, owner) => keys.some((key) => key.formerOwner === recorded && key.owner === owner),
    formerOwnersOf: (owner) => keys.filter((key) => key.owner === owner && key.formerOwner !== owner).map(({ formerOwner }) => formerOwner),
    weightOf: (owner) => keys.find((key) => key.owner === owner)?.weight ?? 1,
    countOwners: () => new Set(keys.map(({ owner }) => owner)).size,
    reload() {
      if (file === undefined) return
      try {
        const read = [...configured, ...readApiKeysFile(file.path).keys]
        checkApiKeys(read)
        keys = read
      } catch (error) {
        throw new ConfigError(`API_KEYS_FILE: ${(error as Error).message}`, { cause: error })
      }
    },
  }
}

/** Reports keys in the file that conflict with those of `API_KEYS`: `schema.superRefine(checkAllApiKeys, { when: () => true })`. */
export function checkAllApiKeys({ API_KEYS, API_KEYS_FILE }: KeyVariables, context: z.RefinementCtx): void {
  const isOneWrong = context.issues.some(({ path }) => path?.[0] === 'API_KEYS' || path?.[0] === 'API_KEYS_FILE')
  if (isOneWrong || API_KEYS_FILE === undefined) return
  try {
    checkApiKeys([...API_KEYS, ...API_KEYS_FILE.keys])
  } catch (error) {
    context.addIssue({ code: 'custom', path: ['API_KEYS_FILE'], message: (error as Error).message })
  }
}

interface KeyVariables {
  readonly API_KEYS: readonly ApiKey[]
  readonly API_KEYS_FILE?: ApiKeysFile | undefined
}
