/**
 * The error for a shortage of memory, and how to recognise one in an error of the runtime.
 *
 * The runtime has no error code for it: each provider's allocator has its own sentence, and the wrappers keep the first error as `cause`.
 * Knows nothing about what needed the memory.
 */

/** The device or the process has too little memory, even for the smallest piece of work. */
export class OutOfMemoryError extends Error {
  override readonly name = 'OutOfMemoryError'
  readonly code = 'out_of_memory'

  /** `work`: what did not fit. */
  constructor(work: string, options?: ErrorOptions) {
    super(`Expected enough memory for ${work}, got: ${messageOf(options?.cause) ?? 'too little'}`, options)
  }
}

/** One pattern for each provider's message, each with a case in the test. cuDNN 9 names host and device; cuDNN 8 and cuBLAS say ALLOC_FAILED. */
const sentences = [
  /out[ _]of[ _](?:device_|host_)?memory/i,
  /outofmemory/i,
  /failed to allocate memory/i,
  /bad_alloc/i,
  /bad allocation/i,
  /alloc_failed/i,
  /allocation[ _]failed/i,
  /not enough memory/i,
  /is smaller than requested bytes/i,
]

export function isOutOfMemory(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof OutOfMemoryError || saysOutOfMemory(at.message)) return true
  return false
}

function saysOutOfMemory(message: string): boolean {
  return sentences.some((sentence) => sentence.test(message))
}

function messageOf(error: unknown): string | undefined {
  return error instanceof Error ? error.message : undefined
}
