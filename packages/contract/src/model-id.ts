/** Which model id the variable MODEL stands for. The api and the worker use the same rule. */

/** Models that have a name of their own instead of their folder's. */
export const modelPresetNames = [
  'stabilityai/stable-diffusion-3-medium',
  'stabilityai/stable-diffusion-3.5-large',
  'stabilityai/stable-diffusion-3.5-large-turbo',
  'stabilityai/stable-diffusion-3.5-medium',
] as const

export const defaultModel = 'tiny-scenes'

/** The id of the model at `model`: the preset with that name or folder, otherwise the folder's base name. */
export function toModelId(model: string): string {
  const path = model.replace(/[/\\]+$/, '')
  const name = path.split(/[/\\]/).at(-1) ?? path
  return modelPresetNames.find((preset) => preset === path || preset.endsWith(`/${name}`)) ?? name
}
