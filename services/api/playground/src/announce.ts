/** What a screen reader is told, and what flashes by for everyone else: one short sentence at a time. Runs in the browser. */
import { signal } from '@preact/signals'

export const announcement = signal('')

export function announce(sentence: string): void {
  announcement.value = sentence
}
