/** A button over a picture: while it is held, the picture that the job began with is shown. Runs in the browser. */
import { useSignal } from '@preact/signals'
import type { VNode } from 'preact'
import { useInputPicture } from './use-input-picture.ts'

/** Renders nothing for a job whose first picture this browser does not know. */
export function HoldBefore({ jobId }: { jobId: string }): VNode | null {
  const held = useSignal(false)
  const url = useInputPicture(`job:${jobId}`)
  if (url === undefined) return null
  const release = (): void => {
    held.value = false
  }
  const holdByKey = (event: KeyboardEvent): void => {
    if (event.key === ' ' || event.key === 'Enter') held.value = event.type === 'keydown'
  }
  return (
    <>
      <img class="original" src={url} alt="Before" hidden={!held.value} draggable={false} />
      <button
        type="button"
        class="hold"
        aria-pressed={held.value}
        onPointerDown={(event) => {
          // Holding the button must not count as a swipe to the next picture.
          event.stopPropagation()
          event.currentTarget.setPointerCapture(event.pointerId)
          held.value = true
        }}
        onPointerUp={(event) => {
          event.stopPropagation()
          release()
        }}
        onPointerCancel={release}
        onContextMenu={(event) => event.preventDefault()}
        onKeyDown={holdByKey}
        onKeyUp={holdByKey}
        onBlur={release}
      >
        Hold: before
      </button>
    </>
  )
}
