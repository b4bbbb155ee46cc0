/** The layout of the buffers at the start of the float16 kernels' memory, through which values from elsewhere pass. Constants only. */

/** The number of values in a buffer: large enough that calls cost little, and small enough that three float16 buffers fit into the L1 cache. */
export const chunk = 4096

/** The byte at which each buffer begins. */
export const buffers = {
  /** Three buffers of float16 bits, for operands that are in other memory. */
  operands: [0, chunk * 2, chunk * 4],
  /** Results in float16 bits overwrite the first operand. */
  results: 0,
  /** One buffer of floats, which a kernel reads or writes. */
  floats: chunk * 6,
} as const

/** The bytes of all buffers. */
export const bufferBytes = chunk * 10
