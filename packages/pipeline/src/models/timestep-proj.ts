/**
 * The sinusoid of a timestep, which our graphs of the transformer take as an input: diffusers' get_timestep_embedding (embeddings.py@58eb52c)
 * with the cosines first, in float32 as torch computes it on x86.
 */

/** The number of values in one sinusoid. */
export const timestepChannels = 256

const half = timestepChannels / 2
/** The indices at which torch's exp is one unit in the last place above the nearest float32. */
const roundedUp = [12, 106]

const frequencies = Float32Array.from({ length: half }, (_, index) =>
  Math.exp(Math.fround(Math.fround(Math.fround(-Math.log(10_000)) * index) / half)),
)
const bits = new Uint32Array(frequencies.buffer)
for (const index of roundedUp) bits[index] = (bits[index] as number) + 1

/** Writes the sinusoid of `timestep`, 0 to 1000, to `target`, which holds timestepChannels values. */
export function writeTimestepProj(timestep: number, target: Float32Array): void {
  for (const [index, frequency] of frequencies.entries()) {
    const angle = Math.fround(Math.fround(timestep) * frequency)
    target[index] = Math.cos(angle)
    target[half + index] = Math.sin(angle)
  }
}
