/** What the variable MODEL means as a model id: the same rule in the api, which names its default model by it, and in the worker. */

/** Models known by a name of their own instead of their folder's. */
export const modelPresetNames = [
  'stabilityai/stable-diffusion-3-medium',
  'stabilityai/stable-diffusion-3.5-large',
  'stabilityai/stable-diffusion-3.5-large-turbo',
  'stabilityai/stable-diffusion-3.5-medium',
] as const

export const defaultModel = 'tiny-scenes'

/** The id of the model at `model`: the preset of that name or folder, else the base name of the folder. */
export function toModelId(model: string): string {
  const path = model.replace(/[/\\]+$/, '')
  const name = path.split(/[/\\]/).at(-1) ?? path
  return modelPresetNames.find((preset) => preset === path || preset.endsWith(`/${name}`)) ?? name
}
