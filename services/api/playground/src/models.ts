/** Owns the list of models with their defaults and limits, as the api told it. Runs in the browser. */
import { signal } from '@preact/signals'
import type { Capabilities } from '@easel/contract'
import { ApiError, requestJson } from './api.ts'

export type Model = Capabilities['models'][number]

export const models = signal<readonly Model[]>([])
/** Why there is no list; empty when there is one or a key is asked for. */
export const modelsProblem = signal('')

/** Milliseconds until the next try while there is no model. */
const retryMs = 2000

export async function loadModels(): Promise<void> {
  try {
    models.value = (await requestJson<Capabilities>('v1/capabilities')).models
    modelsProblem.value = models.value.length === 0 ? 'No worker has started yet. Pictures can be made as soon as one has.' : ''
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    if (error.status === 401) return
    modelsProblem.value = error.message
  }
  if (models.value.length === 0) setTimeout(() => void loadModels(), retryMs)
}
