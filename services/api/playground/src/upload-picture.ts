/** Sends a picture ahead of the job that takes it. Runs in the browser. */
import { easel } from './api.ts'

/** What `image` and `mask` of a job call it. Throws an EaselError when it is not taken. */
export async function uploadPicture(picture: Blob): Promise<string> {
  const { id } = await easel.upload(picture)
  return `upload:${id}`
}
