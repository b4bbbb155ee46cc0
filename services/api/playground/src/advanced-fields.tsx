/** The settings that most people leave alone, folded away by default. The page remembers what was chosen. Runs in the browser. */
import type { VNode } from 'preact'
import { LoraFields } from './lora-fields.tsx'
import type { Model } from './models.ts'
import { SeedField } from './seed-field.tsx'
import { clearAlso, fieldErrors, isOfLoras, set, settings, unshownAlso } from './settings.ts'
import { TextField } from './text-field.tsx'

const ownFields = ['negative_prompt', 'num_inference_steps', 'guidance_scale', 'seed']

export function AdvancedFields({ model }: { model: Model | undefined }): VNode {
  const { defaults, accepts } = model ?? {}
  const { advancedOpen } = settings.value
  const also = unshownAlso()
  // An error must be visible, so the settings are unfolded.
  const wrong = fieldErrors.value.some(({ field }) => ownFields.includes(field) || field.startsWith('skip_') || isOfLoras(field))
  return (
    <details class="advanced" open={advancedOpen || wrong} onToggle={(event) => set({ advancedOpen: event.currentTarget.open })}>
      <summary>Advanced settings</summary>
      <div class="fields">
        <TextField field="negative_prompt" label="Negative prompt" hint="what to keep out" />
        <div class="row">
          <TextField
            field="num_inference_steps"
            label="Steps"
            placeholder={defaults && String(defaults.num_inference_steps)}
            step={1}
            min={1}
            max={200}
            inputMode="numeric"
          />
          <TextField
            field="guidance_scale"
            label="Guidance"
            placeholder={defaults && String(defaults.guidance_scale)}
            step={0.5}
            min={0}
            max={100}
            inputMode="decimal"
          />
        </div>
        <SeedField />
        <LoraFields model={model} />
        {accepts?.skip_guidance_layers === true && <SkipLayerFields />}
        {also.length > 0 && (
          <p class="hint also">
            Taken over from the job: {also.join(', ')}.{' '}
            <button type="button" onClick={clearAlso}>
              Leave out
            </button>
          </p>
        )}
      </div>
    </details>
  )
}

function SkipLayerFields(): VNode {
  return (
    <>
      <TextField field="skip_guidance_layers" label="Skip-layer guidance" hint="layers, such as 2, 3" placeholder="none" />
      {settings.value.skip_guidance_layers.trim() !== '' && (
        <div class="row">
          <TextField field="skip_layer_guidance_scale" label="Scale" placeholder="2.8" step={0.1} min={0} max={100} inputMode="decimal" />
          <TextField field="skip_layer_guidance_start" label="From" placeholder="0.01" step={0.01} min={0} max={1} inputMode="decimal" />
          <TextField field="skip_layer_guidance_stop" label="To" placeholder="0.2" step={0.01} min={0} max={1} inputMode="decimal" />
        </div>
      )}
    </>
  )
}
