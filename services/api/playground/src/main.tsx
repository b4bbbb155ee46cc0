/** Entry of the playground: draws the page, then asks the api what there is. Runs in the browser, on /. */
import { render } from 'preact'
import { App } from './app.tsx'
import { loadGallery } from './jobs.ts'
import { loadModels } from './models.ts'

const root = document.querySelector('#app')
if (root === null) throw new Error('Expected an element #app, got none')
render(<App />, root)
void loadModels()
void loadGallery()
