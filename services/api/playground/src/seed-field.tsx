/** Chooses the seed: one drawn for each job, a fixed one, or the last job's again. Runs in the browser. */
import type { VNode } from 'preact'
import { jobs } from './jobs.ts'
import { lastSeed, set, settings } from './settings.ts'
import { TextField } from './text-field.tsx'

export function SeedField(): VNode {
  const { seedFixed } = settings.value
  const again = lastSeed.value ?? jobs.value[0]?.job.input.seed
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
        <button type="button" disabled={again === undefined} onClick={() => set({ seedFixed: true, seed: String(again) })}>
          Same again
        </button>
      </div>
      {seedFixed && <TextField field="seed" label="Fixed seed" step={1} min={0} inputMode="numeric" placeholder="random" />}
    </fieldset>
  )
}
