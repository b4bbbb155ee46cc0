/** What an examination of this machine finds: a sentence and, if something is wrong, another one that says how to solve it. */
export interface Finding {
  /** What was examined, in a word or two. */
  subject: string
  /** `bad`: Easel does not work, or not as configured; `warn`: it works but could do better. */
  state: 'ok' | 'warn' | 'bad'
  says: string
  /** How to solve the problem; undefined where there is none. */
  mend?: string
}

/** The finding of an examination that itself failed. */
export function toFailure(subject: string, error: unknown): Finding {
  return { subject, state: 'bad', says: error instanceof Error ? error.message : String(error) }
}
