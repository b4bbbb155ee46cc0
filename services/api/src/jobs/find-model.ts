/**
 * Which model a request means, and which models are listed in public. A model's record is kept for ever and jobs for it are always accepted,
 * because workers may be scaled to zero. Runs in the api.
 */
import { ProblemError } from '@easel/contract'
import type { RegisteredModel } from '@easel/job-store'
import type { AppDeps } from '../app-deps.ts'
import { describeValue } from '../problems/field-errors.ts'
import { findServingWorkers } from './find-serving-workers.ts'

export type ModelNeeds = Pick<AppDeps, 'config' | 'now' | 'registry'>

/** A model as it is listed. */
export interface ListedModel extends RegisteredModel {
  /** The number of workers that can take its jobs now. */
  workers: number
  /** Whether requests that name no model get this one. */
  isDefault: boolean
}

/** How long after its last announcement a model is listed, in milliseconds. */
const listedMs = 86_400_000
/** After how many seconds to repeat a request that found no worker: about as long as loading a model takes. */
const noWorkerRetrySeconds = 10

/** The model names that the vendors' clients use by default. */
const usualName =
  /^(?:dall-e-[23]|gpt-image-\d[\w.-]*|chatgpt-image-latest|stability-ai\/[\w.-]+|black-forest-labs\/[\w.-]+|fal-ai\/[\w.-]+)$/

/** The models that a worker has announced within a day, by id. */
export async function listModels({ config, now, registry }: ModelNeeds): Promise<ListedModel[]> {
  const [models, workers] = await Promise.all([registry.models(), registry.workers()])
  const since = now() - listedMs
  return models.flatMap((model) => {
    const listed = { ...model, workers: findServingWorkers(workers, model.id).length, isDefault: model.id === config.defaultModel }
    return listed.workers > 0 || Date.parse(model.announced_at) >= since ? [listed] : []
  })
}

/** The model with that id or alias; for undefined the default model. Throws `model_not_found` or `no_worker`. */
export async function findModel(deps: ModelNeeds, name: string | undefined, options?: FindModelOptions): Promise<RegisteredModel> {
  const id = name ?? deps.config.defaultModel
  const model = await lookUpModel(deps, id, options)
  if (model !== undefined) return model
  const known = (await listModels(deps)).map((other) => other.id)
  if (known.length === 0) throw new ProblemError('no_worker', undefined, { retryAfterSeconds: noWorkerRetrySeconds })
  const served = `Served here: ${known.join(', ')}.`
  if (name === undefined) {
    const detail = `No worker has announced the default model ${id} yet. ${served}`
    throw new ProblemError('no_worker', detail, { retryAfterSeconds: noWorkerRetrySeconds })
  }
  const received = name.length <= 200 ? name : describeValue(name)
  const errors = [{ field: 'model', expected: `one of ${known.join(', ')}`, received }]
  throw new ProblemError('model_not_found', `There is no model ${received}. ${served}`, { errors })
}

export interface FindModelOptions {
  /** Whether a vendor's usual name means the model when there is only one. Default false. */
  usualNames?: boolean
}

/** The model with that id or alias; undefined when there is none. */
export async function lookUpModel(
  deps: ModelNeeds,
  name: string,
  { usualNames = false }: FindModelOptions = {},
): Promise<RegisteredModel | undefined> {
  const { config, registry } = deps
  const model = await registry.model(config.modelAliases.get(name) ?? name)
  if (model !== undefined || !usualNames || !usualName.test(name)) return model
  const listed = await listModels(deps)
  return listed.length === 1 ? listed[0] : undefined
}
