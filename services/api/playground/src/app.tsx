/** The page: head, form, gallery, and the one place where a screen reader is told what happens. Runs in the browser. */
import type { VNode } from 'preact'
import { announcement } from './announce.ts'
import { keyWanted } from './api.ts'
import { JobCard } from './job-card.tsx'
import { galleryState, jobs } from './jobs.ts'
import { KeyForm } from './key-form.tsx'
import { serviceProblem } from './models.ts'
import { PromptForm } from './prompt-form.tsx'

export function App(): VNode {
  return (
    <>
      <header class="head">
        <h1>Easel</h1>
        <p>Say what the picture shows.</p>
        <nav aria-label="More">
          <a href="docs">API reference</a>
        </nav>
      </header>
      <p class="banner" role="status" hidden={serviceProblem.value === ''}>
        {serviceProblem}
      </p>
      <main class="page">
        <div class="side">
          {keyWanted.value && <KeyForm />}
          <PromptForm />
        </div>
        <section class="gallery" aria-labelledby="gallery-title">
          <h2 id="gallery-title">Pictures</h2>
          {jobs.value.length === 0 ? (
            <p class="empty">
              {galleryState.value === 'read' ? 'Nothing here yet. The first picture is one prompt away.' : 'Looking for pictures …'}
            </p>
          ) : (
            <ul class="cards">
              {jobs.value.map((shown) => (
                <JobCard key={shown.job.id} shown={shown} />
              ))}
            </ul>
          )}
        </section>
      </main>
      <div role="status" class="visually-hidden">
        {announcement}
      </div>
    </>
  )
}
