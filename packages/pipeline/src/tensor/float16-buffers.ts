/** Where the kernels for float16 keep what passes through their memory: the layout of its first bytes, before any rows. Constants only. */

/** The number of values in a buffer: large enough that calls cost little, and small enough that three of halves fit into a first-level cache. */
export const chunk = 4096

/** The byte at which each buffer begins. */
export const buffers = {
  /** Three of float16 bits, for operands that lie elsewhere. */
  operands: [0, chunk * 2, chunk * 4],
  /** Results of float16 bits come over the first operand. */
  results: 0,
  /** One of floats, which a kernel takes or gives. */
  floats: chunk * 6,
} as const

/** The bytes of all buffers. */
export const bufferBytes = chunk * 10
