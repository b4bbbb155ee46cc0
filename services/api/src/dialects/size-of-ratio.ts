/** Width and height for an aspect ratio, which is how other services give sizes. Pure. */
import type { ModelDefaults, ModelLimits } from '@easel/contract'

/** `16:9` and the like; each side of the ratio from 1 to 99. */
export const ratioPattern = /^([1-9][0-9]?):([1-9][0-9]?)$/

/**
 * The size with this ratio that has about as many pixels as the model's default picture and is within the model's limits. Sides are multiples
 * of what the model requires, so the ratio is met as closely as that allows.
 */
export function sizeOfRatio(
  ratio: string,
  { defaults, limits }: { defaults: ModelDefaults; limits: ModelLimits },
): { width: number; height: number } {
  const match = ratioPattern.exec(ratio)
  const wanted = Number(match?.[1] ?? 1) / Number(match?.[2] ?? 1)
  const { size_multiple: multiple, max_side: maxSide, max_pixels: maxPixels } = limits
  const pixels = Math.min(defaults.width * defaults.height, maxPixels)
  const toSide = (side: number): number => Math.max(multiple, Math.round(side / multiple) * multiple)
  // If a side is longer than the model allows, both are reduced.
  const longest = Math.floor(maxSide / multiple) * multiple
  const scale = Math.min(1, longest / Math.sqrt(pixels * Math.max(wanted, 1 / wanted)))
  let [width, height] = [toSide(scale * Math.sqrt(pixels * wanted)), toSide(scale * Math.sqrt(pixels / wanted))]
  while (width * height > maxPixels) {
    if (width >= height) width -= multiple
    else height -= multiple
  }
  return { width, height }
}
