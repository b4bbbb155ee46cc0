/** One labelled field of the form with what the api had against it. Runs in the browser. */
import type { ComponentChildren, VNode } from 'preact'
import { fieldErrors, set, settings, type Field } from './settings.ts'

interface FieldProps {
  field: Field
  label: string
  /** Beside the label. */
  hint?: string
  /** Stands in the empty field: what the model takes then. */
  placeholder?: string | undefined
  children?: ComponentChildren
}

interface TextFieldProps extends FieldProps {
  /** Lines of text; 1: a single line. Default: 1. */
  rows?: number
  /** Default: text. */
  inputMode?: 'text' | 'numeric' | 'decimal'
  /** What the arrow keys of a number field add; makes it a number field. */
  step?: number | undefined
  min?: number | undefined
  max?: number | undefined
  disabled?: boolean
}

/** Messages of the api about one field of the form, or of one entry of a list. */
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
