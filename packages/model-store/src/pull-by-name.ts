/** Pulls what a name means: a preset or repository from the hub, or a folder or file on this machine. For the command line and workers. */
import { useProxy } from './hub-fetch.ts'
import { openHubRepository, readHubVariables } from './hub-source.ts'
import { openLocalModel } from './local-source.ts'
import { parseModelName } from './model-name.ts'
import { pullModel } from './pull-model.ts'
import type { PulledModel, PullOptions } from './pull-model.ts'

export interface PullByNameOptions extends Omit<PullOptions, 'openSource' | 'folder'> {
  /** The variables that say where the hub is, who is asking, and through which proxy. */
  env: Readonly<Record<string, string | undefined>>
  /** The folder to which a relative path is relative. Default: the working directory. */
  workingDirectory?: string
}

export async function pullByName(text: string, options: PullByNameOptions): Promise<PulledModel> {
  const { env, workingDirectory = process.cwd(), signal, onEvent, ...rest } = options
  const name = parseModelName(text, workingDirectory)
  const pull = { ...rest, signal, onEvent, folder: name.folder }
  if (name.type === 'local') return await pullModel({ ...pull, openSource: () => openLocalModel(name.path) })
  useProxy(env)
  const hub = {
    ...(await readHubVariables(env)),
    signal,
    onRetry: (reason: string, waitMs: number) => onEvent({ type: 'retry', reason, waitMs }),
  }
  return await pullModel({ ...pull, openSource: () => openHubRepository(name.repository, name.revision, hub) })
}
