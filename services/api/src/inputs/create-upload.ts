/** Stores a picture that a client has sent, for later jobs. Runs in the api. */
import { randomUUID } from 'node:crypto'
import type { Upload } from '@easel/contract'
import type { UploadRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { holdInput } from './hold-inputs.ts'
import { takeBytes, toRefusal } from './take-picture.ts'

export type UploadNeeds = Pick<AppDeps, 'config' | 'inputs' | 'logger' | 'now' | 'storage'>

/** `id`: the id that the client was given earlier; default a new one. `field`: for errors. Throws `invalid_image` or `image_too_large`. */
export async function createUpload(
  deps: UploadNeeds,
  bytes: Uint8Array,
  { owner, field, id = randomUUID() }: { owner: string; field: string; id?: string },
): Promise<Upload> {
  const { config, inputs, now } = deps
  const taken = await takeBytes(deps, bytes).catch((error: unknown) => {
    throw toRefusal(error, field, config)
  })
  const expiresAt = config.resultTtlSeconds === 0 ? undefined : now() + config.resultTtlSeconds * 1000
  await holdInput(deps, taken, { holder: `upload:${id}`, owner, dueAt: expiresAt ?? Number.POSITIVE_INFINITY })
  const record: UploadRecord = { id, owner, ...taken.picture, expiresAt }
  await inputs.putUpload(record)
  return { id, ...taken.picture, expires_at: expiresAt === undefined ? null : new Date(expiresAt).toISOString() }
}
