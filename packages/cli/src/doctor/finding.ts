/** What an examination of this machine finds: one sentence each, and another that says what mends it where something is wrong. */
export interface Finding {
  /** What was looked at, in a word or two. */
  subject: string
  /** `bad`: Easel does not work, or not as it was told to; `warn`: it works, and could do better. */
  state: 'ok' | 'warn' | 'bad'
  says: string
  /** What mends it; undefined where nothing has to be mended. */
  mend?: string
}

/** A finding of an examination that failed itself. */
export function toFailure(subject: string, error: unknown): Finding {
  return { subject, state: 'bad', says: error instanceof Error ? error.message : String(error) }
}
