/**
 * What to say when a copy fails because it lacks the `#private` members of its class. No code outside a class can copy those, and every
 * access to a missing one throws a TypeError, so nothing is ever shared silently; this module only adds advice.
 * Knows nothing about pipelines.
 */

/** V8's sentences for a private field that is missing, and for a private method or accessor. */
const missingMember = /^(?:Cannot (?:read|write) private member #|(?:Receiver|Object) must be an instance of class )/

/** Returns `error`, or, where a missing `#private` member caused it, an error that names the class and says what to add. */
export function explainMissingPrivateMember(error: unknown, className: string): unknown {
  if (!(error instanceof TypeError) || !missingMember.test(error.message)) return error
  const expected = `Expected ${className} and what it copies for a request to be without #private members, or to offer`
  return new TypeError(`${expected} cloneForRequest() (a pipeline, a scheduler) or clone(), got: ${error.message}`, { cause: error })
}
