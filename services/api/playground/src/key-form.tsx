/** Asks for the API key when the api has asked for one. Runs in the browser. */
import type { VNode } from 'preact'
import { apiKey, setApiKey } from './api.ts'
import { loadGallery } from './jobs.ts'
import { loadModels } from './models.ts'

export function KeyForm(): VNode {
  const wrong = apiKey.value !== ''
  const submit = (event: SubmitEvent): void => {
    event.preventDefault()
    const form = new FormData(event.currentTarget as HTMLFormElement)
    const key = form.get('key')
    setApiKey(typeof key === 'string' ? key.trim() : '', form.has('keep'))
    void loadModels()
    void loadGallery()
  }
  return (
    <form class="panel key" onSubmit={submit}>
      <div class="field">
        <label for="key">API key</label>
        <input
          id="key"
          name="key"
          type="password"
          autocomplete="off"
          required
          aria-invalid={wrong}
          aria-describedby={wrong ? 'key-error key-hint' : 'key-hint'}
        />
        {wrong && (
          <p id="key-error" class="error" role="alert">
            The server does not know this key.
          </p>
        )}
        <p id="key-hint" class="hint">
          This server requires a key. The page forgets it when you close the tab.
        </p>
      </div>
      <label class="check">
        <input type="checkbox" name="keep" /> Keep it in this browser
      </label>
      <button type="submit">Use this key</button>
    </form>
  )
}
