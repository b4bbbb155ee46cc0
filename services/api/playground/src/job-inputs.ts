/**
 * Owns what this browser knows about the pictures that jobs began with, because the records of the jobs contain only a hash. It survives a
 * reload. Runs in the browser.
 */
const inputsName = 'easel.inputs'
const keptInputs = 100

/** The upload or URL that a reference stands for; undefined for a job that another browser made. */
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
