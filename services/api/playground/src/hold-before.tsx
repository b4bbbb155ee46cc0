/** A button over a picture that shows, as long as it is held, the picture it was made from. Runs in the browser. */
import { useSignal } from '@preact/signals'
import type { VNode } from 'preact'
import { useInputPicture } from './use-input-picture.ts'

/** Nothing for a job whose picture this browser does not know. */
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
          // Holding is no swipe to the next picture.
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
