/** Sends a picture ahead of the job that takes it. Runs in the browser. */
import type { Upload } from '@easel/contract'
import { requestJson } from './api.ts'

/** What `image` and `mask` of a job call it. Throws an ApiError when it is not taken. */
export async function uploadPicture(picture: Blob): Promise<string> {
  const { id } = await requestJson<Upload>('v1/uploads', { method: 'POST', headers: { 'Content-Type': picture.type }, body: picture })
  return `upload:${id}`
}
