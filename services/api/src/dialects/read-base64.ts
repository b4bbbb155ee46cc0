/** Reads a stored picture for an answer that contains it. Runs in the api. */
import { ProblemError } from '@easel/contract'
import type { StoredImage } from '@easel/contract'
import type { AppDeps } from '../app-deps.ts'

/** The file as base64. Throws `expired` when it is no longer there. */
export async function readBase64({ storage }: Pick<AppDeps, 'storage'>, { key }: StoredImage): Promise<string> {
  const object = await storage.open(key)
  if (object === undefined) throw new ProblemError('expired')
  return Buffer.from(await new Response(object.body).arrayBuffer()).toString('base64')
}
