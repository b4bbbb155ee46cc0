/** The sizes that the form offers as buttons: common ratios with about the area of the model's default size, within its limits. Pure. */
import type { Model } from './models.ts'

export interface SizePreset {
  name: string
  width: number
  height: number
}

const ratios = [
  ['Square', 1],
  ['Landscape', 3 / 2],
  ['Portrait', 2 / 3],
  ['Wide', 16 / 9],
  ['Tall', 9 / 16],
] as const

export function toSizePresets({ defaults, limits }: Pick<Model, 'defaults' | 'limits'>): SizePreset[] {
  const { size_multiple: multiple, max_side: maxSide, max_pixels: maxPixels } = limits
  const area = Math.min(defaults.width * defaults.height, maxPixels)
  const toSide = (pixels: number): number =>
    Math.max(multiple, Math.min(Math.round(pixels / multiple), Math.floor(maxSide / multiple)) * multiple)
  return ratios
    .map(([name, ratio]) => ({ name, width: toSide(Math.sqrt(area * ratio)), height: toSide(Math.sqrt(area / ratio)) }))
    .filter(({ width, height }) => width * height <= maxPixels)
}
