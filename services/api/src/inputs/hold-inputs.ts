/**
 * Stores the input pictures of a job before it is queued, and removes them with the last job or upload that needs them. Runs in the api.
 * Knows nothing about where pictures come from.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ProblemError, inputKey } from '@easel/contract'
import type { InputPicture } from '@easel/contract'
import type { DueHold, InputHolder, JobRecord } from '@easel/job-store'
import { UnusablePicture } from '@easel/input-pictures'
import { StorageError } from '@easel/storage'
import type { AppDeps } from '../app-deps.ts'

export type HoldNeeds = Pick<AppDeps, 'inputs' | 'logger' | 'now' | 'storage'>

/** A picture with its bytes, or without them if it is already stored. */
export interface TakenPicture {
  picture: InputPicture
  bytes?: Uint8Array
}

/** A request that has not made its job or upload after this many milliseconds never will. */
const unfinishedMs = 600_000
const [holdTries, betweenTriesMs] = [100, 100]

export interface HoldInputOptions {
  holder: InputHolder
  owner: string
}

/**
 * The holder is checked later, by when any request must have made its job or upload. Throws `UnusablePicture` if the picture was stored but no
 * longer exists; it is held in that case too.
 */
export async function holdInput({ inputs, now, storage }: HoldNeeds, taken: TakenPicture, options: HoldInputOptions): Promise<void> {
  const { holder, owner } = options
  const dueAt = now() + unfinishedMs
  const { picture, bytes } = taken
  const key = inputKey(picture.sha256)
  // Another process may be removing the same picture at this moment.
  for (let tries = 1; !(await inputs.hold(picture, holder, { owner, dueAt })); tries++) {
    if (tries === holdTries) throw new ProblemError('storage_unavailable', undefined, { retryAfterSeconds: 5 })
    await sleep(betweenTriesMs)
  }
  if ((await storage.stat(key)) !== undefined) return
  if (bytes === undefined) throw new UnusablePicture('a picture that exists', 'one that has been deleted')
  await storage.put(key, bytes, { contentType: 'application/octet-stream' })
}

/** Releases the pictures of a job that is being removed, or was not made. */
export async function releaseInputs(
  deps: Pick<AppDeps, 'inputs' | 'logger' | 'storage'>,
  { id, input }: Pick<JobRecord, 'id' | 'input'>,
): Promise<void> {
  const hashes = new Set([input.image, input.mask].flatMap((picture) => picture?.sha256 ?? []))
  for (const sha256 of hashes) await releaseInput(deps, sha256, `job:${id}`)
}

/** Returns false when the store has not removed the picture yet; the sweep tries again. */
export async function releaseInput(
  { inputs, logger, storage }: Pick<AppDeps, 'inputs' | 'logger' | 'storage'>,
  sha256: string,
  holder: DueHold['holder'],
): Promise<boolean> {
  if (!(await inputs.release(sha256, holder))) return true
  try {
    await storage.delete(inputKey(sha256))
  } catch (error) {
    if (!(error instanceof StorageError)) throw error
    logger.warn({ err: error, sha256 }, 'an unused input picture could not be deleted; the sweep tries again')
    return false
  }
  await inputs.forget(sha256)
  return true
}
