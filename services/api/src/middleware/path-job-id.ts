/** Which job a path is about, whatever its route calls the parameter: for log lines, also of requests that never reach a route. */
import { isJobId, parseImageFileName } from '@easel/contract'

/** The first part of the path that is the id of a job or the name of one of its pictures; undefined: none is. */
export function pathJobId(path: string): string | undefined {
  const ids = path.split('/').map((part) => (isJobId(part) ? part : parseImageFileName(part)?.id))
  return ids.find((id) => id !== undefined)
}
