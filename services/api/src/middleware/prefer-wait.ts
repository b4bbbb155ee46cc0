/** The `wait` preference of a request (RFC 7240): how long the caller would like to wait for the end of a job. Runs in the api. */

/**
 * The seconds to wait, capped; undefined when the request has no wait or one that is not a number, which RFC 7240 says to ignore. `wait`
 * without a number means the cap. If there are several, the first counts. Nothing after an unmatched quotation mark is read, so that the time
 * grows only linearly with the length of the header.
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
  // Reads up to the next separator that is not inside a quoted string.
  const part = /((?:"(?:[^"\\]|\\.)*"|[^,;"])*)([,;]|$)/y
  for (let before = ','; before !== '';) {
    const match = part.exec(header)
    if (match === null) return
    const [, text = '', separator = ''] = match
    if (before === ',') yield text
    before = separator
  }
}
