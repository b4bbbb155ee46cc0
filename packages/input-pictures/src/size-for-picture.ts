/**
 * The size of the pictures that are drawn from an input picture. Pure: the service and the command line give the same picture the same size.
 */

/** The sizes that a model draws. */
export interface SizeRule {
  /** Sides are multiples of this many pixels. */
  readonly multiple: number
  /** Longest side in pixels. */
  readonly maxSide: number
  /** Area in pixels that a picture is scaled down to when neither of its sides was asked for. */
  readonly maxArea: number
}

/**
 * If neither side was asked for, the picture keeps its own size, scaled down to `maxArea`; if one was, the other follows from the picture's
 * aspect ratio. Computed sides are rounded down to what the model draws; sides that were asked for are returned unchanged.
 */
export function sizeForPicture(
  picture: { readonly width: number; readonly height: number },
  { width, height }: { readonly width?: number | undefined; readonly height?: number | undefined },
  { multiple, maxSide, maxArea }: SizeRule,
): { width: number; height: number } {
  const toSide = (pixels: number): number => {
    // A side that misses a multiple only by the rounding of a division counts as that multiple.
    const rounded = Math.floor(pixels / multiple + 1e-9) * multiple
    return Math.max(multiple, Math.min(rounded, Math.floor(maxSide / multiple) * multiple))
  }
  const longest = Math.max(picture.width, picture.height)
  const scale = Math.min(1, Math.sqrt(maxArea / (picture.width * picture.height)), maxSide / longest)
  return {
    width: width ?? toSide(picture.width * (height === undefined ? scale : height / picture.height)),
    height: height ?? toSide(picture.height * (width === undefined ? scale : width / picture.width)),
  }
}
