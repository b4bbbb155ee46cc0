/**
 * Owns what this browser knows of the pictures that jobs began with: their records name only a hash. Kept over a reload. Runs in the browser.
 */
const inputsName = 'easel.inputs'
const keptInputs = 100

/** The upload or URL behind a reference; undefined for the picture of a job that another browser made. */
export function findInput(reference: string): string | undefined {
  return reference.startsWith('job:') ? (stored()[reference.slice('job:'.length)] ?? undefined) : reference
}

export function rememberInput(jobId: string, reference: string | undefined): void {
  const input = reference && findInput(reference)
  if (!input) return
  const newest = [[jobId, input], ...Object.entries(stored())].slice(0, keptInputs)
  localStorage.setItem(inputsName, JSON.stringify(Object.fromEntries(newest)))
}

function stored(): Record<string, string> {
  try {
    return JSON.parse(localStorage.getItem(inputsName) ?? '{}') as Record<string, string>
  } catch {
    return {}
  }
}
