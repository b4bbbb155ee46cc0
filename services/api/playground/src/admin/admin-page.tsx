/** The status page: what is wrong first, then the queue, models, workers, failures, shares and webhooks. Runs in the browser. */
import type { ComponentChildren, VNode } from 'preact'
import type { JobStatus, ServiceStatus } from '@easel/contract'
import { FailureTable, ModelTable, ShareTable, WebhookTable, WorkerTable } from './status-tables.tsx'
import { connectionProblem, link, serviceProblem, status } from './service-status.ts'
import { toCount } from './words.ts'

export function AdminPage(): VNode {
  return (
    <>
      <header class="head">
        <h1>Easel status</h1>
        <nav aria-label="More">
          <a href="admin/queues">Queues</a>
          <a href="./">Playground</a>
          <a href="docs">API reference</a>
        </nav>
      </header>
      {/* Always present, so that a screen reader announces what appears in it. */}
      <div role="status" class="banners">
        {[connectionProblem.value, serviceProblem.value].map((problem) => problem !== '' && <p class="banner">{problem}</p>)}
      </div>
      <main class={link.value === 'ok' ? '' : 'past'}>
        {status.value === undefined ? <p class="quiet">Nothing has been read yet.</p> : <Overview of={status.value} />}
      </main>
    </>
  )
}

const states: readonly JobStatus[] = ['queued', 'running', 'succeeded', 'failed', 'canceled']

function Overview({ of }: { of: ServiceStatus }): VNode {
  const { jobs, models, workers, failures, shares, webhooks, read_at } = of
  return (
    <>
      <p class="quiet">
        {link.value === 'ok' ? 'As of ' : 'Last known state, as of '}
        <time dateTime={read_at}>{new Date(read_at).toLocaleTimeString()}</time>
      </p>
      <Section name="Jobs" hint="Jobs whose records are still kept.">
        <dl class="tiles">
          {states.map((state) => (
            <div key={state} data-state={state}>
              <dt>{state}</dt>
              <dd>{jobs[state].toLocaleString('en')}</dd>
            </div>
          ))}
        </dl>
      </Section>
      <Section name="Models" hint={toLeftOut(models)} empty={models.total === 0 && 'No worker has announced a model yet.'}>
        <ModelTable models={models.listed} readAt={read_at} />
      </Section>
      <Section
        name="Workers"
        hint={toLeftOut(workers)}
        empty={workers.total === 0 && 'No worker has sent a heartbeat in the last 20 seconds.'}
      >
        <WorkerTable workers={workers.listed} readAt={read_at} />
      </Section>
      <Section
        name="Failures"
        hint={`The latest failed jobs (${failures.looked_at}), grouped by the message that their owners see.`}
        empty={failures.looked_at === 0 && 'None of the jobs that are still kept has failed.'}
      >
        <FailureTable failures={failures.listed} readAt={read_at} />
      </Section>
      <Section
        name="Shares"
        hint="Device time by API key. Keys with waiting jobs come first, in the order of their turns."
        empty={shares.listed.length === 0 && 'No device time has been used yet.'}
      >
        <ShareTable shares={shares} />
      </Section>
      <Section
        name="Webhooks"
        hint={`${toCount(webhooks.waiting, 'message waits', 'messages wait')}, ${webhooks.sending} being sent, ${webhooks.given_up} given up in the last hour.`}
        empty={webhooks.listed.length === 0 && 'No message waits.'}
      >
        <WebhookTable messages={webhooks.listed} readAt={read_at} />
      </Section>
    </>
  )
}

interface SectionProps {
  name: string
  hint?: string
  /** The text shown instead of the content. Default: false, the content is shown. */
  empty?: string | false
  children: ComponentChildren
}

function Section({ name, hint = '', empty = false, children }: SectionProps): VNode {
  const id = name.toLowerCase()
  return (
    <section aria-labelledby={id}>
      <h2 id={id}>{name}</h2>
      {empty === false && hint !== '' && <p class="quiet">{hint}</p>}
      {empty === false ? children : <p class="quiet">{empty}</p>}
    </section>
  )
}

function toLeftOut({ total, listed }: { total: number; listed: readonly unknown[] }): string {
  return total > listed.length ? `The first ${listed.length} of ${total.toLocaleString('en')}.` : ''
}
