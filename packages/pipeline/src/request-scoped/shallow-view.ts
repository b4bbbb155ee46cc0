/**
 * A shallow copy of a pipeline: same class, same components, fields of its own. Made from outside by copying the fields, or by the class
 * itself through `cloneForRequest()` or `clone()`; a class with `#private` members has to offer one of them.
 * Knows nothing about which fields hold a request's state.
 */
import { types } from 'node:util'
import { classNameOf, deepCopy, isPlainObject, isTiedToItsOwner, kindOf } from './clone-mutable.ts'
import { hasPrivateMembers } from './private-members.ts'

interface OffersCopies {
  cloneForRequest?: unknown
  clone?: unknown
}

/** Throws for a pipeline of which no safe view can ever be made. */
export function assertCopyable(pipeline: object): void {
  const name = classNameOf(pipeline)
  const { cloneForRequest, clone } = pipeline as OffersCopies
  if (typeof cloneForRequest === 'function') return
  if (hasPrivateMembers(pipeline) && typeof clone !== 'function') {
    throw new TypeError(`Expected ${name} to offer cloneForRequest() or clone(), got a class with #private members and neither`)
  }
  if (isTiedToItsOwner(Object.getOwnPropertyDescriptor(pipeline, 'generate')?.value)) {
    throw new TypeError(`Expected ${name}.generate to be a method, got a function tied to one object, which a view would still change`)
  }
}

/** `warn` is called when only a deep copy was possible. */
export function shallowView<T extends object>(pipeline: T, warn: (message: string) => void): T {
  const name = classNameOf(pipeline)
  const { cloneForRequest, clone } = pipeline as OffersCopies
  const offered = typeof cloneForRequest === 'function' ? cloneForRequest : hasPrivateMembers(pipeline) ? clone : undefined
  if (typeof offered === 'function') {
    const view: unknown = offered.call(pipeline)
    if (typeof view !== 'object' || view === null || view === pipeline || typeof (view as { generate?: unknown }).generate !== 'function') {
      const got = view === pipeline ? 'the same object' : classNameOf(view)
      throw new TypeError(`Expected ${name}.${offered.name}() to return another pipeline, got ${got}`)
    }
    return view as T
  }
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
  // An Array, Map, Date …: its contents are no fields.
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
