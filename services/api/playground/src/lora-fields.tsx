/** Chooses LoRAs of the model and the scale of each. Runs in the browser. */
import type { VNode } from 'preact'
import type { Model } from './models.ts'
import { set, settings, type ChosenLora } from './settings.ts'
import { describedBy, FieldProblem } from './text-field.tsx'

/** The api's own limit. */
const mostLoras = 4

/** Renders nothing for a model without LoRAs, unless some are still chosen from another model: they would be sent, so they are shown. */
export function LoraFields({ model }: { model: Model | undefined }): VNode | null {
  const known = model?.loras ?? []
  const { loras } = settings.value
  if (known.length === 0 && loras.length === 0) return null
  const free = known.filter((id) => !loras.some((lora) => lora.id === id))
  const change = (at: number, to: Partial<ChosenLora>): void =>
    set({ loras: loras.map((lora, n) => (n === at ? { ...lora, ...to } : lora)) })
  const add = (): void => {
    set({ loras: [...loras, { id: free[0] ?? '', scale: '' }] })
  }
  return (
    <fieldset id="loras" class="loras" tabIndex={-1}>
      <legend>
        LoRAs <span class="hint">added to the model</span>
      </legend>
      {loras.map(({ id, scale }, n) => (
        <div key={id} class="lora">
          <select
            id={`loras.${n}.id`}
            aria-label={`LoRA ${n + 1}`}
            value={id}
            onChange={(event) => change(n, { id: event.currentTarget.value })}
            {...describedBy(`loras.${n}.id`)}
          >
            <option value={id}>{known.includes(id) ? id : `${id} (not available)`}</option>
            {free.map((other) => (
              <option key={other} value={other}>
                {other}
              </option>
            ))}
          </select>
          <input
            id={`loras.${n}.scale`}
            type="number"
            aria-label={`Scale of ${id}`}
            placeholder="1"
            step={0.1}
            min={-4}
            max={4}
            inputMode="decimal"
            value={scale}
            onInput={(event) => change(n, { scale: event.currentTarget.value })}
            {...describedBy(`loras.${n}.scale`)}
          />
          <button type="button" aria-label={`Remove ${id}`} onClick={() => set({ loras: loras.filter((_, other) => other !== n) })}>
            ✕
          </button>
          <FieldProblem field={`loras.${n}.id`} />
          <FieldProblem field={`loras.${n}.scale`} />
        </div>
      ))}
      {loras.length < mostLoras && free.length > 0 && (
        <button type="button" class="add" onClick={add}>
          Add a LoRA
        </button>
      )}
      <FieldProblem field="loras" />
    </fieldset>
  )
}
