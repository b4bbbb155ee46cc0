/** Chooses the size: a preset, shown by its shape, or any size in pixels. Runs in the browser. */
import type { VNode } from 'preact'
import type { Model } from './models.ts'
import { set, settings } from './settings.ts'
import { toSizePresets } from './size-presets.ts'
import { TextField } from './text-field.tsx'

/** Renders nothing until the model's sizes are known. */
export function SizeField({ model }: { model: Model | undefined }): VNode | null {
  const { width, height, sizeOpen, also } = settings.value
  if (model === undefined) return null
  const { defaults, limits } = model
  const presets = toSizePresets(model)
  const isOfPicture = also.image !== undefined && model.accepts.image
  const usual = isOfPicture ? undefined : defaults
  const now = { width: Number(width) || usual?.width, height: Number(height) || usual?.height }
  const side = { step: limits.size_multiple, min: limits.size_multiple, max: limits.max_side, inputMode: 'numeric' as const }
  return (
    <fieldset class="size">
      <legend>Size</legend>
      <div class="presets">
        {isOfPicture && (
          <label title="The size of the picture to begin with">
            <input
              type="radio"
              name="size"
              checked={!sizeOpen && width === '' && height === ''}
              onChange={() => set({ width: '', height: '', sizeOpen: false })}
            />
            <span class="shape" aria-hidden="true">
              =
            </span>
            Its own
          </label>
        )}
        {presets.map((preset) => (
          <label key={preset.name} title={`${preset.width} × ${preset.height}`}>
            <input
              type="radio"
              name="size"
              checked={!sizeOpen && preset.width === now.width && preset.height === now.height}
              onChange={() => set({ width: String(preset.width), height: String(preset.height), sizeOpen: false })}
            />
            <Shape width={preset.width} height={preset.height} />
            {preset.name}
          </label>
        ))}
        <label>
          <input type="radio" name="size" checked={sizeOpen} onChange={() => set({ sizeOpen: true })} />
          <span class="shape" aria-hidden="true">
            …
          </span>
          Custom
        </label>
      </div>
      {sizeOpen ? (
        <>
          <div class="row">
            <TextField field="width" label="Width" hint="px" placeholder={usual && String(usual.width)} {...side} />
            <TextField field="height" label="Height" hint="px" placeholder={usual && String(usual.height)} {...side} />
          </div>
          <p class="hint">
            Multiples of {limits.size_multiple}, a side up to {limits.max_side}, at most {limits.max_pixels.toLocaleString('en')} pixels.
          </p>
        </>
      ) : (
        now.width !== undefined && (
          <p class="hint">
            {now.width} × {now.height} pixels
          </p>
        )
      )}
    </fieldset>
  )
}

/** A rectangle with the ratio of the size. */
function Shape({ width, height }: { width: number; height: number }): VNode {
  const scale = 20 / Math.max(width, height)
  const [w, h] = [width * scale, height * scale]
  return (
    <svg class="shape" viewBox="0 0 24 24" aria-hidden="true">
      <rect x={12 - w / 2} y={12 - h / 2} width={w} height={h} rx="2" />
    </svg>
  )
}
