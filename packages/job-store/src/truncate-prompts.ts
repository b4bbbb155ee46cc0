/** Makes what is kept of a job small when it will never be made: its prompts are cut, everything else stays. Pure. */
import { promptFields } from '@easel/contract'
import type { JobInput } from '@easel/contract'

/** Characters that are left of each prompt. */
const keptCharacters = 200

/** Undefined when there is nothing to cut. */
export function truncatePrompts(input: JobInput): JobInput | undefined {
  const short = { ...input }
  let isCut = false
  for (const field of promptFields) {
    // Whole characters: half of a surrogate pair is no text.
    const characters = Array.from(input[field] ?? '')
    if (characters.length <= keptCharacters) continue
    short[field] = characters.slice(0, keptCharacters).join('')
    isCut = true
  }
  return isCut ? short : undefined
}
