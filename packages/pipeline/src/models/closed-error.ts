/** A call to a session or pipeline that has been closed. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError'
}
