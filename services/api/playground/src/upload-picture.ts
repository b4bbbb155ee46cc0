/** Uploads a picture ahead of the job that uses it. Runs in the browser. */
import { easel } from './api.ts'

/** Returns the value for `image` or `mask` of a job. Throws an EaselError when the picture is refused. */
export async function uploadPicture(picture: Blob): Promise<string> {
  const { id } = await easel.upload(picture)
  return `upload:${id}`
}
