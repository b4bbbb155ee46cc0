/** The `wait` preference of a request (RFC 7240): how long the caller would like to wait for the end of a job. Runs in the api. */

/**
 * Seconds to wait, capped; undefined when the request names no wait or one that is no number, which RFC 7240 says to ignore. `wait`
 * without a number means the cap. Of several the first counts.
 */
export function parsePreferWait(header: string | undefined, maxSeconds: number): number | undefined {
  for (const preference of splitOutsideQuotes(header ?? '', ',')) {
    const [first = ''] = splitOutsideQuotes(preference, ';')
    const [name = '', value] = first.split('=', 2).map((part) => part.trim())
    if (name.toLowerCase() !== 'wait') continue
    const text = value?.replace(/^"(.*)"$/, '$1') ?? ''
    if (text === '') return maxSeconds
    return /^[0-9]+$/.test(text) ? Math.min(Number(text), maxSeconds) : undefined
  }
  return undefined
}

function splitOutsideQuotes(text: string, separator: ',' | ';'): string[] {
  const part = separator === ',' ? /(?:"(?:[^"\\]|\\.)*"|[^,"])+/g : /(?:"(?:[^"\\]|\\.)*"|[^;"])+/g
  return text.match(part) ?? []
}
