/** Deletes an upload before it expires. Jobs that use its picture keep it. Runs in the api. */
import type { AppDeps } from '../app-deps.ts'
import { findUpload } from './find-upload.ts'
import { releaseInput } from './hold-inputs.ts'

/** False: there is no such upload, or it is another owner's. If the store does not answer, the sweep deletes the bytes later. */
export async function deleteUpload(
  deps: Pick<AppDeps, 'apiKeys' | 'inputs' | 'logger' | 'now' | 'storage'>,
  id: string,
  owner: string,
): Promise<boolean> {
  const upload = await findUpload(deps, id, owner)
  if (upload === undefined) return false
  // In this order, so that a deletion that is interrupted in between can be completed by repeating it.
  await releaseInput(deps, upload.sha256, `upload:${id}`)
  await deps.inputs.deleteUpload(id)
  return true
}
