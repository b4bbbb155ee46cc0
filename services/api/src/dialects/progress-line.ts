/** A step as a log line that clients can parse: the format of Python's progress bars. Pure. */
import type { Progress } from '@easel/contract'

const barLength = 10

export function toProgressLine({ step, total }: Progress): string {
  const done = total === 0 ? 0 : step / total
  const bar = '█'.repeat(Math.floor(done * barLength)).padEnd(barLength)
  return `${String(Math.floor(done * 100)).padStart(3)}%|${bar}| ${step}/${total}`
}
