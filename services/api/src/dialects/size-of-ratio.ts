/** Width and height for an aspect ratio, as other services name sizes. Pure. */
import type { ModelDefaults, ModelLimits } from '@easel/contract'

/** `16:9` and the like; each side of the ratio from 1 to 99. */
export const ratioPattern = /^([1-9][0-9]?):([1-9][0-9]?)$/

/**
 * The size of that ratio which has about as many pixels as the model's default picture and is within its limits. Sides are whole multiples
 * of what the model wants, so that the ratio is met as nearly as they allow.
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
  // A longer side than the model takes makes the other shorter too.
  const longest = Math.floor(maxSide / multiple) * multiple
  const scale = Math.min(1, longest / Math.sqrt(pixels * Math.max(wanted, 1 / wanted)))
  let [width, height] = [toSide(scale * Math.sqrt(pixels * wanted)), toSide(scale * Math.sqrt(pixels / wanted))]
  while (width * height > maxPixels) {
    if (width >= height) width -= multiple
    else height -= multiple
  }
  return { width, height }
}
