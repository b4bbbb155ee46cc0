/**
 * Owns what the page knows about the service. It is read every few seconds while the page is visible; the browser sends the key it asked for.
 *
 * Invariant: the last reading stays when the service cannot be read, and the page then says that it is old. Runs in the browser.
 */
import { computed, signal } from '@preact/signals'
import type { Problem, ServiceStatus } from '@easel/contract'

/** Milliseconds between two readings: while everything works, and while it does not. */
const calmMs = 3000
const restlessMs = 2000
/** Milliseconds after which an unanswered reading counts as lost. */
const answerLimitMs = 10_000

/** What the last answer showed. `ok`; `queue`: the api answers but its queue does not; `key`: the key was refused; `away`: no answer. */
type Link = 'ok' | 'queue' | 'key' | 'away'

export const status = signal<ServiceStatus | undefined>(undefined)
export const link = signal<Link>('ok')

/** What is wrong with the connection and what happens meanwhile; empty when nothing is wrong. */
export const connectionProblem = computed(() => {
  const sentences: Record<Link, string> = {
    ok: '',
    queue:
      'Reconnecting: Redis does not answer. No job can be submitted or canceled until it is back. Workers continue with the jobs they have started, and no accepted job is lost.',
    key: 'The key is no longer accepted. Reload this page to enter another one.',
    away: 'Reconnecting: the server does not answer. Workers continue with the jobs in the queue.',
  }
  return sentences[link.value]
})

/** What is missing although the service answers, and what happens meanwhile; empty when nothing is missing. */
export const serviceProblem = computed(() => {
  if (link.value !== 'ok' || status.value === undefined) return ''
  const { listed } = status.value.models
  if (listed.length === 0) return 'No worker has started yet. Jobs can be submitted as soon as one has.'
  const idle = listed.filter(({ workers, waiting }) => workers === 0 && waiting > 0).map(({ id }) => id)
  if (idle.length > 0)
    return `No worker is available for ${idle.join(', ')}. Its jobs wait, and start by themselves as soon as a worker is available.`
  return listed.every(({ workers }) => workers === 0) ? 'No worker is available. Jobs are accepted, and wait for one.' : ''
})

/** Reads the status as long as the page is open and visible. */
export async function watchStatus(): Promise<never> {
  for (;;) {
    await untilVisible()
    await loadStatus()
    await new Promise((resolve) => setTimeout(resolve, link.value === 'ok' ? calmMs : restlessMs))
  }
}

async function loadStatus(): Promise<void> {
  let response: Response
  try {
    response = await fetch('admin/status', { signal: AbortSignal.timeout(answerLimitMs) })
    if (response.ok) status.value = (await response.json()) as ServiceStatus
  } catch {
    link.value = 'away'
    return
  }
  link.value = response.ok ? 'ok' : await toLink(response)
}

async function toLink(response: Response): Promise<Link> {
  if (response.status === 401 || response.status === 429) return 'key'
  const { code } = (await response.json().catch(() => ({}))) as Partial<Problem>
  // The answer is not the api's own: a proxy answers for an api that is away.
  return code === 'queue_unavailable' ? 'queue' : 'away'
}

async function untilVisible(): Promise<void> {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }))
  }
}
