/** Entry of the playground: draws the page, then asks the api what there is, again and again. Runs in the browser, on /. */
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
// At the start, and whenever the service is back.
effect(() => {
  if (link.value === 'ok') untracked(() => void loadGallery())
})
