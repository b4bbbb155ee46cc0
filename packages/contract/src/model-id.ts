/** Derives from the variable MODEL, without reading any file, the id under which a worker announces that model. */

/** Models whose id is not the name of their folder. */
export const modelPresetNames = [
  'stabilityai/stable-diffusion-3-medium',
  'stabilityai/stable-diffusion-3.5-large',
  'stabilityai/stable-diffusion-3.5-large-turbo',
  'stabilityai/stable-diffusion-3.5-medium',
] as const

export const defaultModel = 'tiny-scenes'

/**
 * The id of the model that `model` names: the preset with that name or folder; for a folder of Hugging Face's cache, the repository; otherwise the
 * base name of the folder, or of the file without its extension.
 */
export function toModelId(model: string): string {
  const path = model.replace(/[/\\](?:\.?[/\\])*\.?$/, '')
  const repository = /(?:^|[/\\])models--([^/\\]+)(?:[/\\]snapshots[/\\][^/\\]+)?$/.exec(path)?.[1]?.replace('--', '/')
  const name = repository ?? (path.split(/[/\\]/).at(-1) ?? path).replace(/\.safetensors$/, '')
  return modelPresetNames.find((preset) => preset === path || preset === name || preset.endsWith(`/${name}`)) ?? name
}
