/** Chooses the picture that a job begins with (dropped, pasted, chosen, or from the gallery), its strength and its mask. Runs in the browser. */
import { EaselError } from '@easel/client'
import { useSignal } from '@preact/signals'
import type { VNode } from 'preact'
import { useEffect } from 'preact/hooks'
import { announce } from './announce.ts'
import { clearMask, operations } from './mask.ts'
import { MaskPainter } from './mask-painter.tsx'
import { chosenModel, set, settings, setInputPicture } from './settings.ts'
import { FieldProblem } from './text-field.tsx'
import { uploadPicture } from './upload-picture.ts'
import { useInputPicture } from './use-input-picture.ts'

/** The strength of a request that gives none. */
const usualStrength = '0.6'

/** Renders nothing for a model that takes no pictures. */
export function PictureField(): VNode | null {
  return chosenModel.value?.accepts.image === true ? <TakingPictureField /> : null
}

function TakingPictureField(): VNode {
  const problem = useSignal('')
  const sending = useSignal(false)
  const { image } = settings.value.also

  const take = async (file: File | undefined): Promise<void> => {
    if (file === undefined || sending.value) return
    sending.value = true
    problem.value = ''
    try {
      setInputPicture(await uploadPicture(file))
      announce('The picture was added')
    } catch (error) {
      if (!(error instanceof EaselError)) throw error
      problem.value = error.message
    } finally {
      sending.value = false
    }
  }
  useEffect(() => {
    const takeFrom = (event: Event, data: DataTransfer | null): void => {
      if (!data?.types.includes('Files')) return
      event.preventDefault()
      if (data.files[0] !== undefined) void take(data.files[0])
    }
    const paste = (event: ClipboardEvent): void => takeFrom(event, event.clipboardData)
    const drop = (event: DragEvent): void => takeFrom(event, event.dataTransfer)
    // A file may be dropped anywhere on the page, because a browser opens one dropped beside a small target in place of the page.
    document.addEventListener('paste', paste)
    document.addEventListener('dragover', drop)
    document.addEventListener('drop', drop)
    return () => {
      document.removeEventListener('paste', paste)
      document.removeEventListener('dragover', drop)
      document.removeEventListener('drop', drop)
    }
  }, [])

  return (
    <fieldset class="picture">
      <legend>
        Begin with a picture <span class="hint">optional</span>
      </legend>
      {image === undefined ? (
        <label class="drop" aria-busy={sending.value}>
          <input
            type="file"
            class="visually-hidden"
            accept="image/png,image/jpeg,image/webp,image/avif,image/gif"
            onChange={(event) => {
              void take(event.currentTarget.files?.[0])
              event.currentTarget.value = ''
            }}
          />
          {sending.value ? 'Sending …' : 'Choose, drop or paste a picture'}
        </label>
      ) : (
        <ChosenPicture reference={image} />
      )}
      {problem.value !== '' && (
        <p class="error" role="alert">
          {problem}
        </p>
      )}
    </fieldset>
  )
}

function ChosenPicture({ reference }: { reference: string }): VNode {
  const painting = useSignal(false)
  const url = useInputPicture(reference)
  const { also, strength } = settings.value
  const mayPaint = url !== undefined && chosenModel.value?.accepts.mask === true
  const isPainted = operations.value.length > 0
  const leaveMaskOut = (): void => {
    const { mask: _mask, ...others } = also
    clearMask()
    set({ also: others })
  }
  return (
    <>
      {url === undefined ? (
        <p class="hint">An earlier picture, which this page cannot show.</p>
      ) : painting.value ? (
        <MaskPainter key={url} url={url} />
      ) : (
        <img class="chosen-picture" src={url} alt="The picture to begin with" />
      )}
      <div class="field">
        <label for="strength">
          Strength <output for="strength">{strength || usualStrength}</output>
          <span class="hint"> how much may change</span>
        </label>
        <input
          id="strength"
          type="range"
          min={0.05}
          max={1}
          step={0.05}
          value={strength || usualStrength}
          onInput={(event) => set({ strength: event.currentTarget.value })}
        />
        <FieldProblem field="strength" />
      </div>
      {(isPainted ? !painting.value : also.mask !== undefined) && (
        <p class="hint">
          {isPainted ? 'Only the painted part is drawn again.' : 'The mask of the job that it came from is used.'}{' '}
          <button type="button" onClick={leaveMaskOut}>
            Leave out
          </button>
        </p>
      )}
      <div class="actions">
        {mayPaint && (
          <button type="button" aria-pressed={painting.value} onClick={() => (painting.value = !painting.value)}>
            Paint a mask
          </button>
        )}
        <button type="button" onClick={() => setInputPicture(undefined)}>
          Remove picture
        </button>
      </div>
    </>
  )
}
