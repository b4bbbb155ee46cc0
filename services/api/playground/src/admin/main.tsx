/** The entry of the status page: draws it, then reads the status from the api again and again. Runs in the browser, on /admin. */
import { render } from 'preact'
import { AdminPage } from './admin-page.tsx'
import { watchStatus } from './service-status.ts'

const root = document.querySelector('#app')
if (root === null) throw new Error('Expected an element #app, got none')
render(<AdminPage />, root)
void watchStatus()
