/** Shortens the input kept for a job that will never run: cuts its prompts and keeps everything else. Pure. */
import { promptFields } from '@easel/contract'
import type { JobInput } from '@easel/contract'

/** How many characters of each prompt are kept. */
const keptCharacters = 200

/** Undefined when there is nothing to cut. */
export function truncatePrompts(input: JobInput): JobInput | undefined {
  const short = { ...input }
  let isCut = false
  for (const field of promptFields) {
    // Cuts at whole characters, because half of a surrogate pair is not valid text.
    const characters = Array.from(input[field] ?? '')
    if (characters.length <= keptCharacters) continue
    short[field] = characters.slice(0, keptCharacters).join('')
    isCut = true
  }
  return isCut ? short : undefined
}
