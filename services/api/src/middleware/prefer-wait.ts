/** The `wait` preference of a request (RFC 7240): how long the caller would like to wait for the end of a job. Runs in the api. */

/**
 * Seconds to wait, capped; undefined when the request names no wait or one that is no number, which RFC 7240 says to ignore. `wait`
 * without a number means the cap. Of several the first counts. Nothing after a quotation mark without its partner is read: the time that
 * this takes grows with the length of the header and no faster.
 */
export function parsePreferWait(header: string | undefined, maxSeconds: number): number | undefined {
  for (const preference of splitPreferences(header ?? '')) {
    const [name = '', value] = preference.split('=', 2).map((part) => part.trim())
    if (name.toLowerCase() !== 'wait') continue
    const text = value?.replace(/^"(.*)"$/, '$1') ?? ''
    if (text === '') return maxSeconds
    return /^[0-9]+$/.test(text) ? Math.min(Number(text), maxSeconds) : undefined
  }
  return undefined
}

/** Every preference with its value, without its parameters. */
function* splitPreferences(header: string): Iterable<string> {
  // Up to the next separator that is not inside a quoted string.
  const part = /((?:"(?:[^"\\]|\\.)*"|[^,;"])*)([,;]|$)/y
  for (let before = ','; before !== '';) {
    const match = part.exec(header)
    if (match === null) return
    const [, text = '', separator = ''] = match
    if (before === ',') yield text
    before = separator
  }
}
