/**
 * Tells whether an object carries `#private` members, which no code outside its class can copy.
 * Fields and accessors are read from the engine itself (V8 lists them through `node:inspector`); private methods leave no trace on the
 * instance, so for those the class source is read. The answer is kept per prototype. Knows nothing about pipelines.
 */
import { Session } from 'node:inspector'
import { types } from 'node:util'

const answers = new WeakMap<object, boolean>()
/** A name no other code uses: the inspector can reach an object only through the global scope, for the length of one synchronous call. */
const handOver = '__easelPrivateMembersSubject'

export function hasPrivateMembers(value: object): boolean {
  const prototype: object | null = Object.getPrototypeOf(value)
  if (prototype === null || prototype === Object.prototype || types.isProxy(value)) return false
  const known = answers.get(prototype)
  if (known !== undefined) return known
  const answer = callsPrivateMethods(prototype) || hasPrivateFields(value)
  answers.set(prototype, answer)
  return answer
}

function callsPrivateMethods(prototype: object): boolean {
  for (let level: object | null = prototype; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    const owner: unknown = Object.getOwnPropertyDescriptor(level, 'constructor')?.value
    if (typeof owner === 'function' && /\bthis\??\.#[\w$]+\s*\(/.test(Function.prototype.toString.call(owner))) return true
  }
  return false
}

function hasPrivateFields(value: object): boolean {
  const session = new Session()
  session.connect()
  try {
    let found = false
    Object.defineProperty(globalThis, handOver, { value, configurable: true })
    session.post('Runtime.evaluate', { expression: `globalThis.${handOver}` }, (error, evaluated) => {
      if (error !== null || evaluated.result.objectId === undefined) return
      session.post('Runtime.getProperties', { objectId: evaluated.result.objectId, ownProperties: true }, (failed, properties) => {
        const fields = (properties as { privateProperties?: unknown[] } | undefined)?.privateProperties
        found = failed === null && fields !== undefined && fields.length > 0
      })
    })
    return found
  } finally {
    Reflect.deleteProperty(globalThis, handOver)
    session.disconnect()
  }
}
