/**
 * Reads a member through a proxy. Methods come bound to the object behind it, since a method that uses `#private` members accepts nothing
 * else as `this`; one method read twice is the same function. Knows nothing about what the proxy is for.
 */
import { isClass } from './clone-mutable.ts'

const boundMethods = new WeakMap<object, Map<object, unknown>>()

export function bindMethod(owner: object, key: PropertyKey): unknown {
  const member: unknown = Reflect.get(owner, key)
  if (typeof member !== 'function' || key === 'constructor' || isClass(member)) return member
  let ofOwner = boundMethods.get(owner)
  if (ofOwner === undefined) boundMethods.set(owner, (ofOwner = new Map()))
  let bound = ofOwner.get(member)
  if (bound === undefined) ofOwner.set(member, (bound = member.bind(owner)))
  return bound
}
