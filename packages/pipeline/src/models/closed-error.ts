/** A closed session or pipeline was called. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError'
}
