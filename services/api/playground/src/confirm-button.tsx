/** A button for an action that cannot be undone: the first press asks, and the second one acts. Runs in the browser. */
import type { VNode } from 'preact'
import { useState } from 'preact/hooks'

interface ConfirmButtonProps {
  label: string
  /** What the button says after the first press. */
  question: string
  disabled?: boolean
  onConfirm: () => void
}

export function ConfirmButton({ label, question, disabled = false, onConfirm }: ConfirmButtonProps): VNode {
  const [asked, setAsked] = useState(false)
  const press = (): void => {
    if (asked) onConfirm()
    setAsked(!asked)
  }
  return (
    <button type="button" class={asked ? 'danger' : ''} disabled={disabled} onClick={press} onBlur={() => setAsked(false)}>
      {asked ? question : label}
    </button>
  )
}
