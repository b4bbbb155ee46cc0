/**
 * Components whose calls wait for their turn: tokenizers (one lock for all of a pipeline), the VAE and the image processor (one lock each).
 * A locked component is a proxy. The methods in its list, and the call of the component itself, run under the lock and therefore return
 * promises; every other member reads and writes through. The lock covers one call, never a generation, and is released when a call throws.
 * A call made from inside a call under the same lock goes straight through, since it would otherwise wait for itself. Nothing is locked twice.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { Mutex } from 'async-mutex'
import { bindMethod } from './bind-method.ts'

/** Any mutex: runs `fn` alone and settles as `fn` does. `Mutex` and `Semaphore` of the async-mutex package fit. */
export interface Lock {
  runExclusive<T>(fn: () => Promise<T> | T): Promise<T>
}

interface Turn {
  lock: Lock
  over: boolean
  outer: Turn | undefined
}

const vaeMethods = new Set<PropertyKey>(['encode', 'decode', 'forward'])
const imageProcessorMethods = new Set<PropertyKey>(['preprocess', 'postprocess'])
const currentTurn = new AsyncLocalStorage<Turn | undefined>()
const locked = new WeakSet<object>()
/** The default lock of each object, so that two wrappers around one pipeline wait for each other. */
const defaultLocks = new WeakMap<object, Lock>()

export function defaultLockOf(owner: object): Lock {
  let lock = defaultLocks.get(owner)
  if (lock === undefined) defaultLocks.set(owner, (lock = new Mutex()))
  return lock
}

export function isLocked(component: object): boolean {
  return locked.has(component)
}

/** The methods to serialise on a component that a pipeline holds as `name`; undefined for anything but a VAE and an image processor. */
export function serialisedMethods(component: object, name: string): ReadonlySet<PropertyKey> | undefined {
  const methods = /^vae(?:En|De)?(?:coder)?$/i.test(name) ? vaeMethods : /imageProcessor$/i.test(name) ? imageProcessorMethods : undefined
  return methods !== undefined && [...methods].some((method) => typeof Reflect.get(component, method) === 'function') ? methods : undefined
}

export function lockComponent<T extends object>(component: T, lock: Lock, methods: ReadonlySet<PropertyKey>): T {
  if (locked.has(component)) return component
  const callable = typeof component === 'function'
  const lockedMethods = new Map<unknown, unknown>()
  // The proxy's target is a stand-in, because a proxy may not return anything but a frozen target's own methods.
  const standIn: object = callable ? () => {} : {}
  const proxy = new Proxy(standIn, {
    get(_, key) {
      const member = bindMethod(component, key)
      if (typeof member !== 'function' || !methods.has(key)) return member
      let turnTaking = lockedMethods.get(member)
      if (turnTaking === undefined) {
        turnTaking = (...args: unknown[]) => takeTurn(lock, () => member(...args) as unknown)
        lockedMethods.set(member, turnTaking)
      }
      return turnTaking
    },
    apply: (_, self, args) => takeTurn(lock, () => Reflect.apply(component as () => unknown, self, args) as unknown),
    set: (_, key, value) => Reflect.set(component, key, value),
    has: (_, key) => Reflect.has(component, key),
    deleteProperty: (_, key) => Reflect.deleteProperty(component, key),
    getPrototypeOf: () => Reflect.getPrototypeOf(component),
    ownKeys: () => Reflect.ownKeys(component),
    getOwnPropertyDescriptor(_, key) {
      const descriptor = Reflect.getOwnPropertyDescriptor(component, key)
      return descriptor && { ...descriptor, configurable: true }
    },
  })
  locked.add(proxy)
  return proxy as T
}

async function takeTurn<T>(lock: Lock, call: () => Promise<T> | T): Promise<T> {
  const outer = currentTurn.getStore()
  for (let turn = outer; turn !== undefined; turn = turn.outer) {
    // Work that outlives the call that started it may still see that call's turn after it is over; such work waits like any other.
    if (turn.lock === lock && !turn.over) return await call()
  }
  return await lock.runExclusive(async () => {
    const turn: Turn = { lock, over: false, outer }
    try {
      return await currentTurn.run(turn, call)
    } finally {
      turn.over = true
    }
  })
}
