/** Makes the problem that names the wrong fields of a request. Pure. */
import { ProblemError } from '@easel/contract'
import type { FieldError } from '@easel/contract'

/** The codes of problems about fields. */
export type RefusalCode = 'invalid_request' | 'invalid_image' | 'image_too_large'

/** A problem that names all refused fields. */
export function refuseFields(errors: readonly FieldError[], code: RefusalCode = 'invalid_request'): ProblemError {
  const sentences = errors.map(({ field, expected, received }) => `${field === '' ? 'body' : field}: expected ${expected}, got ${received}`)
  return new ProblemError(code, sentences.join('; '), { errors })
}
