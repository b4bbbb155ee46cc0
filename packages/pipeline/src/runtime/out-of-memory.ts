/**
 * How the library says that memory has run out, and how it recognises that the runtime means it.
 *
 * The runtime has no error code for it: each provider's allocator has its own sentence, and the wrappers keep the first error as `cause`.
 * Knows nothing about what needed the memory.
 */

/** The device or the process has too little memory even for the smallest piece of work. */
export class OutOfMemoryError extends Error {
  override readonly name = 'OutOfMemoryError'
  readonly code = 'out_of_memory'

  /** `work`: what did not fit. */
  constructor(work: string, options?: ErrorOptions) {
    super(`Expected enough memory for ${work}, got: ${messageOf(options?.cause) ?? 'too little'}`, options)
  }
}

const SENTENCES =
  /out[ _]?of[ _](device_|host_)?memory|failed to allocate memory|bad_alloc|bad allocation|alloc_failed|allocation failed|not enough memory|is smaller than requested bytes/i

export function isOutOfMemory(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof OutOfMemoryError || SENTENCES.test(at.message)) return true
  return false
}

function messageOf(error: unknown): string | undefined {
  return error instanceof Error ? error.message : undefined
}
