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

/** The file that `API_KEYS_FILE` names, with the keys that were in it when it was read. */
export interface ApiKeysFile {
  readonly path: string
  readonly keys: readonly ApiKey[]
}

export function readApiKeysFile(path: string): ApiKeysFile {
  return { path, keys: parseApiKeysFile(readFileSync(path, 'utf8')) }
}

export class ApiKeyRing {
  readonly #configured: readonly ApiKey[]
  readonly #file: ApiKeysFile | undefined
  #keys: readonly ApiKey[]

  /** `configured`: the keys of `API_KEYS`. `file`: undefined when there is none. */
  constructor(configured: readonly ApiKey[], file: ApiKeysFile | undefined) {
    this.#configured = configured
    this.#file = file
    this.#keys = [...configured, ...(file?.keys ?? [])]
  }

  /** The keys that are accepted now; empty if no key is needed. */
  get keys(): readonly ApiKey[] {
    return this.#keys
  }

  /** The accepted key that equals the presented one; undefined if there is none. */
  find(presented: string): ApiKey | undefined {
    const hash = hashKey(presented)
    // Compared with all keys, so that the time taken does not reveal which one it resembles.
    return this.#keys.filter((key) => timingSafeEqual(key.hash, hash))[0]
  }

  /** Whether `recorded` is the hash of one of `owner`'s keys: before owners had names, the hash was the owner of a job. */
  isFormerly(recorded: string, owner: string): boolean {
    return this.#keys.some((key) => key.formerOwner === recorded && key.owner === owner)
  }

  /** The hashes of an owner's keys, which were the owners of its jobs before it had a name; empty for an owner without a name. */
  formerOwnersOf(owner: string): readonly string[] {
    return this.#keys.filter((key) => key.owner === owner && key.formerOwner !== owner).map(({ formerOwner }) => formerOwner)
  }

  /** The weight of an owner in the fair share; 1 for an owner without a key here. */
  weightOf(owner: string): number {
    return this.#keys.find((key) => key.owner === owner)?.weight ?? 1
  }

  /** The number of different owners of the keys. */
  countOwners(): number {
    return new Set(this.#keys.map(({ owner }) => owner)).size
  }

  /** Reads the file again. Throws a `ConfigError`, and leaves the keys as they are, if it cannot be read or is invalid. */
  reload(): void {
    if (this.#file === undefined) return
    try {
      const read = [...this.#configured, ...readApiKeysFile(this.#file.path).keys]
      checkApiKeys(read)
      this.#keys = read
    } catch (error) {
      throw new ConfigError(`API_KEYS_FILE: ${(error as Error).message}`, { cause: error })
    }
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
