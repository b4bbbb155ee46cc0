/** Owns the short sentence that a screen reader announces, one at a time. Runs in the browser. */
import { signal } from '@preact/signals'

export const announcement = signal('')

export function announce(sentence: string): void {
  announcement.value = sentence
}
