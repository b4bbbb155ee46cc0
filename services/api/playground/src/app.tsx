/** The page: head, form, gallery, and the one place where a screen reader is told what happens. Runs in the browser. */
import type { VNode } from 'preact'
import { announcement } from './announce.ts'
import { keyWanted } from './api.ts'
import { JobCard } from './job-card.tsx'
import { galleryProblem, jobs } from './jobs.ts'
import { KeyForm } from './key-form.tsx'
import { modelsProblem } from './models.ts'
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
      <main class="page">
        <div class="side">
          {keyWanted.value && <KeyForm />}
          {modelsProblem.value !== '' && <p class="notice">{modelsProblem}</p>}
          <PromptForm />
        </div>
        <section class="gallery" aria-labelledby="gallery-title">
          <h2 id="gallery-title">Pictures</h2>
          {galleryProblem.value !== '' && <p class="notice">{galleryProblem}</p>}
          {jobs.value.length === 0 ? (
            <p class="empty">Nothing here yet. The first picture is one prompt away.</p>
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
