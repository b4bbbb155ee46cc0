/**
 * Owns the list of models with their defaults, limits and workers. It is read every few seconds, which also shows whether the service answers.
 * Runs in the browser.
 */
import { computed, signal } from '@preact/signals'
import { EaselError, type Capabilities } from '@easel/client'
import { easel, link } from './api.ts'

export type Model = Capabilities['models'][number]

export const models = signal<readonly Model[]>([])
/** Whether the list has been read since the page was opened. */
const read = signal(false)

/** Milliseconds between two readings: while everything works, and while it does not. */
const calmMs = 5000
const restlessMs = 2000

/** What is missing from the service, and what happens meanwhile; empty when nothing is. */
export const serviceProblem = computed(() => {
  if (link.value === 'away')
    return 'The server does not answer. Jobs that have been submitted are not lost, and this page reconnects by itself.'
  if (link.value === 'queue')
    return 'The queue does not answer. Nothing can be submitted or canceled until it is back. This page reconnects by itself.'
  if (!read.value) return ''
  if (models.value.length === 0) return 'No worker has started yet. You can make pictures as soon as one has.'
  if (models.value.every(({ workers }) => workers === 0))
    return 'No worker is running now. Jobs are accepted and wait; they start by themselves as soon as there is a worker.'
  return ''
})

/** The model that serves requests without `model`, or the first one in the list. */
export const defaultModel = computed(() => models.value.find((model) => model.default) ?? models.value[0])

/** Whether jobs of this model wait for a worker. */
export function isWithoutWorker(modelId: string): boolean {
  return models.value.some(({ id, workers }) => id === modelId && workers === 0)
}

export async function loadModels(): Promise<void> {
  try {
    models.value = (await easel.capabilities()).models
    read.value = true
  } catch (error) {
    // `link` says what is wrong, or the key is asked for.
    if (!(error instanceof EaselError)) throw error
  }
}

/** Reads the list as long as the page is open. */
export async function watchModels(): Promise<never> {
  for (;;) {
    await loadModels()
    await new Promise((resolve) => setTimeout(resolve, serviceProblem.value === '' ? calmMs : restlessMs))
  }
}
