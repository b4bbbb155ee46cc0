/** Chooses the seed: a new one for each job, or a fixed one. Runs in the browser. */
import type { VNode } from 'preact'
import { set, settings } from './settings.ts'
import { TextField } from './text-field.tsx'

export function SeedField(): VNode {
  const { seedFixed } = settings.value
  return (
    <fieldset class="seed">
      <legend>Seed</legend>
      <div class="choices">
        <label>
          <input type="radio" name="seed-choice" checked={!seedFixed} onChange={() => set({ seedFixed: false })} /> Random
        </label>
        <label>
          <input type="radio" name="seed-choice" checked={seedFixed} onChange={() => set({ seedFixed: true })} /> Fixed
        </label>
      </div>
      <p class="hint">
        {seedFixed
          ? 'The same seed and settings give the same picture, byte for byte.'
          : 'Every picture begins with different noise, so each one is new.'}
      </p>
      {seedFixed && <TextField field="seed" label="Fixed seed" step={1} min={0} inputMode="numeric" placeholder="random" />}
    </fieldset>
  )
}
