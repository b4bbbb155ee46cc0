/**
 * What a user who pulls a model may write: a preset, a repository of the hub (`owner/name`, `owner/name@revision`), or a path.
 *
 * Invariant: the folder into which a name is pulled is the one in which a `MODEL` with the same name is looked for.
 */
import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { presets } from '@easel/pipeline'
import type { Preset, PresetName } from '@easel/pipeline'
import { PullError } from './pull-error.ts'

export type ModelName =
  /** `folder`: under the models directory. */
  | { type: 'repository'; repository: string; revision: string; folder: string }
  /** `path`: absolute; `folder`: under the models directory, a file's name where the path is a file. */
  | { type: 'local'; path: string; folder: string }

const repositoryPattern = /^(?<repository>[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:@(?<revision>[\w.-]+))?$/

/** Whether a name can only mean something on the hub: a preset, or an `owner/name` that is not a path. */
export function isRepositoryName(text: string): boolean {
  return repositoryPattern.test(text) && !text.endsWith('.safetensors')
}

/** `workingDirectory`: the folder to which a relative path is relative. */
export function parseModelName(text: string, workingDirectory: string): ModelName {
  const path = resolve(workingDirectory, text)
  if (/^(\.{0,2}\/|~)/.test(text) || text.endsWith('.safetensors')) {
    if (!existsSync(path)) throw new PullError(`Expected a folder or a .safetensors file at ${path}, got nothing there.`)
    return { type: 'local', path, folder: basename(path) }
  }
  const { repository, revision } = repositoryPattern.exec(text)?.groups ?? {}
  if (repository !== undefined) {
    const preset = Object.hasOwn(presets, text) ? (presets[text as PresetName] as Preset) : undefined
    return {
      type: 'repository',
      repository: preset?.repository ?? repository,
      revision: revision ?? 'main',
      folder: preset?.folder ?? text,
    }
  }
  if (existsSync(path)) return { type: 'local', path, folder: basename(path) }
  throw new PullError(
    `Expected a model: a preset (${Object.keys(presets).join(', ')}), a repository of the hub (owner/name or owner/name@revision), ` +
      `or the path of a folder or a .safetensors file, got "${text}".`,
  )
}
