/**
 * A shallow copy of a pipeline: the same class and components, with its own fields. A class that offers `clone()` makes the copy itself;
 * otherwise the fields are copied from outside. Knows nothing about which fields hold a request's state.
 */
import { types } from 'node:util'
import { classNameOf, deepCopy, isPlainObject, kindOf } from './clone-mutable.ts'

/** The method a pipeline may offer so that it is not copied from outside. */
type CopyMethod = 'cloneForRequest' | 'clone'

/** What the pipeline's own copy method returns, refused unless it is another pipeline; undefined where there is no such method. */
export function offeredCopy<T extends object>(pipeline: T, method: CopyMethod): T | undefined {
  const offered: unknown = Reflect.get(pipeline, method)
  if (typeof offered !== 'function') return undefined
  const copy: unknown = offered.call(pipeline)
  if (typeof copy === 'object' && copy !== null && copy !== pipeline && typeof Reflect.get(copy, 'generate') === 'function')
    return copy as T
  const got = copy === pipeline ? 'the same object' : classNameOf(copy)
  throw new TypeError(`Expected ${classNameOf(pipeline)}.${method}() to return another pipeline, got ${got}`)
}

/** `warn` is called when only a deep copy was possible. */
export function shallowView<T extends object>(pipeline: T, warn: (message: string) => void): T {
  const offered = offeredCopy(pipeline, 'clone')
  if (offered !== undefined) return offered
  const name = classNameOf(pipeline)
  try {
    return copyFields(pipeline)
  } catch (shallowError) {
    try {
      const view = deepCopy(pipeline)
      if (view === pipeline) throw shallowError
      warn(
        `${name} cannot be copied shallowly (${(shallowError as Error).message}); each request gets a deep copy, which takes more memory`,
      )
      return view
    } catch (cause) {
      throw new Error(`Expected a pipeline that can be copied for a request, got ${name}: ${(cause as Error).message}`, { cause })
    }
  }
}

function copyFields<T extends object>(pipeline: T): T {
  if (types.isProxy(pipeline)) throw new TypeError('it is a Proxy')
  // The contents of an Array, a Map or a Date are not fields and would not be copied.
  if (kindOf(pipeline) === 'container' && !isPlainObject(pipeline)) throw new TypeError('it extends a built-in class')
  const descriptors = Object.getOwnPropertyDescriptors(pipeline) as Record<PropertyKey, PropertyDescriptor>
  for (const key of Reflect.ownKeys(descriptors)) {
    const descriptor = descriptors[key]
    if (descriptor === undefined) continue
    // A frozen pipeline still gets a view that can hold state.
    descriptor.configurable = true
    if ('value' in descriptor) descriptor.writable = true
  }
  return Object.create(Object.getPrototypeOf(pipeline), descriptors) as T
}
