/** Which job a path is about, whatever its route names the parameter: for log lines, including those of requests that reach no route. */
import { isJobId, parseImageFileName } from '@easel/contract'

/** The first part of the path that is a job id or the name of a job's picture; undefined when there is none. */
export function pathJobId(path: string): string | undefined {
  const ids = path.split('/').map((part) => (isJobId(part) ? part : parseImageFileName(part)?.id))
  return ids.find((id) => id !== undefined)
}
