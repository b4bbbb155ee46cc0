/** Reads an upload for its owner. Runs in the api. */
import type { UploadRecord } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'

/** Undefined when it does not exist, has expired, or belongs to another owner. */
export async function findUpload(
  { apiKeys, inputs, now }: Pick<AppDeps, 'apiKeys' | 'inputs' | 'now'>,
  id: string,
  owner: string,
): Promise<UploadRecord | undefined> {
  const upload = /^[0-9a-f-]{36}$/.test(id) ? await inputs.getUpload(id) : undefined
  if (upload === undefined || (upload.owner !== owner && !apiKeys.isFormerly(upload.owner, owner))) return undefined
  return upload.expiresAt !== undefined && upload.expiresAt <= now() ? undefined : upload
}
