/**
 * Loads a pipeline of the class that its model_index.json names.
 *
 * Owns the registry of pipeline classes. Invariant: only registered classes are created; an unknown one is an error that lists the known
 * ones. Knows nothing about any class's components. Runs in the engine process.
 */
import { z } from 'zod'
import { explainDenied } from '../models/explain-denied.ts'
import { ModelFileError, readModelJson } from '../models/model-file.ts'
import { sd3Pipelines } from './load-components.ts'
import { ModelSource } from './model-source.ts'
import { resolveModel } from './presets.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'

/** What every pipeline has. */
export interface Pipeline {
  /** Makes pictures. Parameters and result depend on the class. */
  generate(params: object): Promise<unknown>
  close(): Promise<void>
}

export interface PipelineClass<Made extends Pipeline = Pipeline> {
  /** `model` as in resolveModel. */
  fromPretrained(model: string, options?: FromPretrainedOptions): Promise<Made>
}

const classes = new Map<string, PipelineClass>(sd3Pipelines.map((name) => [name, StableDiffusion3Pipeline]))

/** Makes `loadPipeline` use this class for folders whose `_class_name` is `className`. A registered name is not replaced. */
export function registerPipelineClass(className: string, pipelineClass: PipelineClass): void {
  if (classes.has(className)) throw new Error(`Expected a pipeline class name that is free, got ${className}`)
  classes.set(className, pipelineClass)
}

/** `model`: path of a model folder, a preset name, or a name in options.modelsDir. */
export async function loadPipeline(model: string, options: FromPretrainedOptions = {}): Promise<Pipeline> {
  try {
    const source = await ModelSource.open(resolveModel(model, options), options.variant)
    const file = source.require('model_index.json')
    const index = await readModelJson(file, z.looseObject({ _class_name: z.string() }))
    const pipelineClass = classes.get(index._class_name)
    if (pipelineClass === undefined)
      throw new ModelFileError(file, '_class_name', `one of ${[...classes.keys()].join(', ')}`, index._class_name)
    return await pipelineClass.fromPretrained(model, options)
  } catch (error) {
    return explainDenied(error, 'MODEL', model)
  }
}
