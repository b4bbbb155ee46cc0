/**
 * Two measures of a row. Its *size* says which rows take equally long, so step times and buffers are kept by it. Its *work* is a number, for
 * comparing rows of different sizes. Pure.
 */

export interface RowSides {
  /** [in_channels, height / 8, width / 8] */
  readonly latents: readonly number[]
  /** [tokens, …] */
  readonly embeds: readonly number[]
}

/** Latent sides and text tokens, as in "16x16+40". Height comes first, so 8x16 is not 16x8. */
export function sizeOf({ latents, embeds }: RowSides): string {
  return `${latents[1]}x${latents[2]}+${embeds[0]}`
}

/** Latent pixels and text tokens. */
export function workOf({ latents, embeds }: RowSides): number {
  return (latents[1] as number) * (latents[2] as number) + (embeds[0] as number)
}
