/** The page: head, form, gallery, and the live region for screen readers. Runs in the browser. */
import type { VNode } from 'preact'
import { announcement } from './announce.ts'
import { keyWanted } from './api.ts'
import { Gallery } from './gallery.tsx'
import { KeyForm } from './key-form.tsx'
import { Lightbox } from './lightbox.tsx'
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
        <Gallery />
      </main>
      <Lightbox />
      <div role="status" class="visually-hidden">
        {announcement}
      </div>
    </>
  )
}
