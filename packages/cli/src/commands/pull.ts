/** `easel pull MODEL` fetches a model into the models directory. */
import { parseModelName, pullByName } from '@easel/model-store'
import type { PullEvent } from '@easel/model-store'
import { toSize } from '../terminal/say.ts'
import { TransferLine } from '../terminal/transfer-line.ts'

export interface PullCommandOptions {
  /** The folder to which a path on the command line is relative. */
  here: string
  modelsDir: string
  variant?: string
  /** Whether to fetch the weights. Default true. */
  weights?: boolean
  json?: boolean
}

/** The exit code of a command that Ctrl-C has ended. */
const interrupted = 130

export async function pull(model: string, { here, modelsDir, variant, weights = true, json = false }: PullCommandOptions): Promise<number> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop.abort())
  const line = new TransferLine(process.stderr)
  const onEvent = (event: PullEvent): void => {
    switch (event.type) {
      case 'waiting':
        return line.say(`Another process is pulling ${model}; waiting for it …`)
      case 'planned':
        return line.say(`${model}: ${event.files} files, ${toSize(event.totalBytes)}`)
      case 'progress':
        return line.update(event.doneBytes, event.totalBytes)
      case 'retry':
        return line.say(`${event.reason}; trying again${event.waitMs >= 1000 ? ` in ${Math.round(event.waitMs / 1000)} s` : ''} …`)
    }
  }
  try {
    const pulled = await pullByName(model, {
      env: process.env,
      workingDirectory: here,
      modelsDir,
      variant,
      weights,
      signal: stop.signal,
      onEvent,
    })
    line.end()
    const name = toModelVariable(model, here)
    if (json) console.log(JSON.stringify({ model: name, path: pulled.path, bytes: pulled.totalBytes, was_there: pulled.wasThere }))
    else {
      const done = pulled.wasThere ? 'is already complete' : `is complete: ${toSize(pulled.totalBytes)}`
      const next = weights
        ? `MODEL=${name} npm start\n  npx easel draw "a red boat on the sea" --model ${name}`
        : `MODEL_PARTS=${name} MODEL=FILE.safetensors npm start`
      console.log(`${model} ${done}, in ${pulled.path}\n\n  ${next}`)
    }
    return 0
  } catch (error) {
    line.end()
    if (!stop.signal.aborted) throw error
    console.error('Stopped. What has been fetched is kept, and the same command continues from there.')
    return interrupted
  }
}

/** The value of MODEL for it: a preset's name, otherwise the name of its folder. */
function toModelVariable(model: string, here: string): string {
  const name = parseModelName(model, here)
  return name.type === 'repository' ? model : name.folder
}
