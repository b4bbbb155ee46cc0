/** The form: what to draw, with which model and settings. It shows the limits and defaults of the chosen model. Runs in the browser. */
import type { VNode } from 'preact'
import { AdvancedFields } from './advanced-fields.tsx'
import { models, type Model } from './models.ts'
import { PictureField } from './picture-field.tsx'
import { scrollToCard } from './scroll-to-card.ts'
import { chosenModel, fields, formProblem, fieldErrors, isOfLoras, set, settings, submitSettings, submitting } from './settings.ts'
import { SizeField } from './size-field.tsx'
import { describedBy, FieldProblem, TextField } from './text-field.tsx'

export function PromptForm(): VNode {
  const model = chosenModel.value

  const submit = async (): Promise<void> => {
    const job = await submitSettings()
    if (job !== undefined) return scrollToCard(job.id)
    const wrong = fieldErrors.value.map(({ field }) => field)
    const first = fields.find((field) => wrong.includes(field)) ?? wrong.find(isOfLoras)
    if (first !== undefined) document.getElementById(first)?.focus()
  }
  const submitByKeyboard = (event: KeyboardEvent): void => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void submit()
  }

  return (
    <form
      class="panel"
      noValidate
      onKeyDown={submitByKeyboard}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <TextField field="prompt" label="Prompt" rows={3} placeholder={model?.examples?.[0] ?? 'a red boat on the sea'} />
      <Examples model={model} />
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
                {workers === 0 ? `${id} (no worker)` : id}
              </option>
            ))}
          </select>
          <FieldProblem field="model" />
        </div>
      )}
      <PictureField />
      <SizeField model={model} />
      <TextField field="num_images_per_prompt" label="Pictures" placeholder="1" step={1} min={1} max={10} inputMode="numeric" />
      <AdvancedFields model={model} />
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

/** Prompts that the model is good at, as buttons. */
function Examples({ model }: { model: Model | undefined }): VNode | null {
  if (model?.examples === undefined || settings.value.prompt.trim() !== '') return null
  return (
    <div class="examples" role="group" aria-label="Examples">
      {model.examples.map((prompt) => (
        <button key={prompt} type="button" title={prompt} onClick={() => set({ prompt })}>
          {prompt}
        </button>
      ))}
    </div>
  )
}
