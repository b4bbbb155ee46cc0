/** Stores a picture that a client has sent, for later jobs. Runs in the api. */
import { randomUUID } from 'node:crypto'
import { ProblemError } from '@easel/contract'
import type { Upload } from '@easel/contract'
import type { UploadRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { holdInput, releaseInput } from './hold-inputs.ts'
import { takeBytes, toRefusal } from './take-picture.ts'

export type UploadNeeds = Pick<AppDeps, 'config' | 'inputs' | 'logger' | 'now' | 'storage'>

export interface CreateUploadOptions {
  owner: string
  /** The field of the request that holds the file, for errors. */
  field: string
  /** The ticket with which the bytes were sent, and the id that the client was given with it. Default: none, and a new id. */
  announced?: { ticket: string; id: string }
}

/** Throws `invalid_image` or `image_too_large`, and `not_found` when another upload was kept with the same ticket meanwhile. */
export async function createUpload(
  deps: UploadNeeds,
  bytes: Uint8Array,
  { owner, field, announced }: CreateUploadOptions,
): Promise<Upload> {
  const { config, inputs, now } = deps
  const taken = await takeBytes(deps, bytes).catch((error: unknown) => {
    throw toRefusal(error, field, config)
  })
  const { sha256 } = taken.picture
  const expiresAt = config.resultTtlSeconds === 0 ? undefined : now() + config.resultTtlSeconds * 1000
  const id = announced?.id ?? randomUUID()
  const holder = `upload:${id}` as const
  await holdInput(deps, taken, { holder, owner })
  const record: UploadRecord = { id, owner, ...taken.picture, expiresAt }
  if (!(await inputs.putUpload(record, announced?.ticket))) {
    if ((await inputs.getUpload(id))?.sha256 !== sha256) await releaseInput(deps, sha256, holder)
    throw new ProblemError('not_found', 'A file has already been sent here.')
  }
  // Only now, so that a picture which could not be stored is not held for as long as an upload.
  await inputs.checkAt(sha256, holder, expiresAt ?? Number.POSITIVE_INFINITY)
  return { id, ...taken.picture, expires_at: expiresAt === undefined ? null : new Date(expiresAt).toISOString() }
}
