/** The form: what to draw, with which model and settings. Limits and defaults shown are the chosen model's. Runs in the browser. */
import type { VNode } from 'preact'
import { useRef } from 'preact/hooks'
import { models } from './models.ts'
import { SeedField } from './seed-field.tsx'
import { scrollToCard } from './scroll-to-card.ts'
import { chosenModel, fields, formProblem, fieldErrors, set, settings, submitSettings, submitting } from './settings.ts'
import { describedBy, FieldProblem, TextField } from './text-field.tsx'

export function PromptForm(): VNode {
  const form = useRef<HTMLFormElement>(null)
  const model = chosenModel.value
  const { defaults, limits } = model ?? {}
  const size = { step: limits?.size_multiple ?? 1, min: limits?.size_multiple, max: limits?.max_side, inputMode: 'numeric' as const }

  const submit = async (): Promise<void> => {
    const job = await submitSettings()
    if (job !== undefined) return scrollToCard(job.id)
    const wrong = fields.find((field) => fieldErrors.value.some((error) => error.field === field))
    if (wrong !== undefined) form.current?.querySelector<HTMLElement>(`#${wrong}`)?.focus()
  }
  const submitByKeyboard = (event: KeyboardEvent): void => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void submit()
  }

  return (
    <form
      ref={form}
      class="panel"
      noValidate
      onKeyDown={submitByKeyboard}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <TextField field="prompt" label="Prompt" rows={3} placeholder="a red boat on the sea" />
      <TextField field="negative_prompt" label="Negative prompt" hint="what must not be there" />
      {models.value.length > 0 && (
        <div class="field">
          <label for="model">Model</label>
          <select
            id="model"
            value={model?.id ?? ''}
            onChange={(event) => set({ model: event.currentTarget.value })}
            {...describedBy('model')}
          >
            {models.value.map(({ id, workers }) => (
              <option key={id} value={id}>
                {workers === 0 ? `${id} (no worker: jobs wait)` : id}
              </option>
            ))}
          </select>
          <FieldProblem field="model" />
        </div>
      )}
      <div class="row">
        <TextField field="width" label="Width" hint="px" placeholder={text(defaults?.width)} {...size} />
        <TextField field="height" label="Height" hint="px" placeholder={text(defaults?.height)} {...size} />
      </div>
      {limits !== undefined && (
        <p class="hint limits">
          Multiples of {limits.size_multiple}, a side up to {limits.max_side}, at most {limits.max_pixels.toLocaleString('en')} pixels.
        </p>
      )}
      <div class="row">
        <TextField
          field="num_inference_steps"
          label="Steps"
          placeholder={text(defaults?.num_inference_steps)}
          step={1}
          min={1}
          max={200}
          inputMode="numeric"
        />
        <TextField
          field="guidance_scale"
          label="Guidance"
          placeholder={text(defaults?.guidance_scale)}
          step={0.5}
          min={0}
          max={100}
          inputMode="decimal"
        />
        <TextField field="num_images_per_prompt" label="Pictures" placeholder="1" step={1} min={1} max={10} inputMode="numeric" />
      </div>
      <SeedField />
      {formProblem.value !== '' && (
        <p class="error" role="alert">
          {formProblem}
        </p>
      )}
      <button type="submit" class="primary" aria-disabled={submitting.value} aria-busy={submitting.value}>
        {submitting.value ? 'Sending …' : settings.value.num_images_per_prompt === '1' ? 'Make a picture' : 'Make pictures'}
      </button>
    </form>
  )
}

function text(value: number | undefined): string | undefined {
  return value === undefined ? undefined : String(value)
}
