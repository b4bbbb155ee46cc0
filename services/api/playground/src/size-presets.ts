/** The sizes a form offers at a press: usual ratios at about the area that a model draws by default, as the model takes them. Pure. */
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
