/** The entry of the playground: draws the page, then reads models and jobs from the api. Runs in the browser, on /. */
import { effect, untracked } from '@preact/signals'
import { render } from 'preact'
import { App } from './app.tsx'
import { link } from './api.ts'
import { loadGallery } from './jobs.ts'
import { watchModels } from './models.ts'

const root = document.querySelector('#app')
if (root === null) throw new Error('Expected an element #app, got none')
render(<App />, root)
void watchModels()
// This happens at the start and whenever the service is back.
effect(() => {
  if (link.value === 'ok') untracked(() => void loadGallery())
})
