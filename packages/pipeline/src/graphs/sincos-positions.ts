/**
 * The positions of patches along one side of a picture as sines and cosines: half of what SD3 adds to each patch.
 *
 * Follows get_1d_sincos_pos_embed_from_grid and PatchEmbed of diffusers' embeddings.py@58eb52c, in the precision in which torch computes
 * them: positions in float32, angles in float64. Pure; knows nothing about graphs.
 */

/**
 * (length, width): the sines of the position's angles, then their cosines.
 *
 * @param length the number of positions
 * @param width a multiple of two
 * @param baseSize the number of patches that the positions from first to last count as
 */
export function sincosPositions(length: number, width: number, baseSize: number): Float32Array {
  const half = width / 2
  const values = new Float32Array(length * width)
  const step = Math.fround(length / baseSize)
  for (let position = 0; position < length; position++) {
    const scaled = Math.fround(position / step)
    for (let index = 0; index < half; index++) {
      const angle = scaled * (1 / 10_000 ** (index / half))
      values[position * width + index] = Math.sin(angle)
      values[position * width + half + index] = Math.cos(angle)
    }
  }
  return values
}
