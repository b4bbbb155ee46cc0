/** Entry of the status page: draws it, then asks the api what there is, again and again. Runs in the browser, on /admin. */
import { render } from 'preact'
import { AdminPage } from './admin-page.tsx'
import { watchStatus } from './service-status.ts'

const root = document.querySelector('#app')
if (root === null) throw new Error('Expected an element #app, got none')
render(<AdminPage />, root)
void watchStatus()
