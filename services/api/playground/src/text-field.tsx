/** One labelled field of the form, with the api's message when it refused the value. Runs in the browser. */
import type { ComponentChildren, VNode } from 'preact'
import { fieldErrors, set, settings, type Field } from './settings.ts'

interface FieldProps {
  field: Field
  label: string
  /** A short text beside the label. */
  hint?: string
  /** Shown in the empty field: the value that the model then uses. */
  placeholder?: string | undefined
  children?: ComponentChildren
}

interface TextFieldProps extends FieldProps {
  /** Lines of text. Default: 1. */
  rows?: number
  /** The keyboard that a phone shows. Default: text. */
  inputMode?: 'text' | 'numeric' | 'decimal'
  /** What the arrow keys add; a field with a step is a number field. */
  step?: number | undefined
  min?: number | undefined
  max?: number | undefined
  disabled?: boolean
}

/** The api's messages about one field of the form or one entry of a list. */
export function FieldProblem({ field }: { field: string }): VNode | null {
  const errors = fieldErrors.value.filter((error) => error.field === field)
  if (errors.length === 0) return null
  return (
    <p id={`${field}-error`} class="error">
      {errors.map(({ expected }) => `Expected ${expected}.`).join(' ')}
    </p>
  )
}

export function describedBy(field: string): { 'aria-invalid': boolean; 'aria-describedby'?: string } {
  const invalid = fieldErrors.value.some((error) => error.field === field)
  return { 'aria-invalid': invalid, ...(invalid && { 'aria-describedby': `${field}-error` }) }
}

export function TextField({ field, label, hint, rows = 1, step, children, ...rest }: TextFieldProps): VNode {
  const shared = {
    ...rest,
    ...describedBy(field),
    id: field,
    name: field,
    value: settings.value[field],
    onInput: (event: Event) => set({ [field]: (event.currentTarget as HTMLInputElement).value }),
  }
  return (
    <div class="field">
      <label for={field}>
        {label}
        {hint !== undefined && <span class="hint"> {hint}</span>}
      </label>
      {rows > 1 ? (
        <textarea {...shared} rows={rows} />
      ) : step === undefined ? (
        <input type="text" {...shared} />
      ) : (
        <input type="number" {...shared} step={step} />
      )}
      {children}
      <FieldProblem field={field} />
    </div>
  )
}
