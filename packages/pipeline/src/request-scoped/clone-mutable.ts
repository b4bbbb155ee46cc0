/**
 * Copies of mutable state. `cloneMutable` copies containers to full depth and leaves class instances shared (a model, a session);
 * `deepCopy` also copies class instances (a scheduler). Both preserve types, cycles and shared references. What cannot be copied is either
 * shared on purpose or is an error that names its class. `#private` members cannot be seen from here: a copy lacks them, so the first
 * method that needs one fails on the copy (see private-members.ts). Knows nothing about pipelines.
 */
import { types } from 'node:util'

export interface CloneOptions {
  /** Tensors and typed arrays with more elements than this stay shared. Number of elements, 0 or more. */
  tensorNumelThreshold: number
  /** Copies already made, by original. Put an entry in beforehand to have another object take the place of a known one. */
  seen: Map<unknown, unknown>
  /**
   * Chooses what replaces a class instance, function or plain object found inside a container; `name` is its key there. If it returns a plain
   * object itself, that object is copied as usual. Default: instances and functions stay shared, plain objects are copied.
   */
  instance?: (value: object, name: string) => unknown
}

type Kind = 'primitive' | 'container' | 'tensor' | 'generator' | 'instance'

/** How copying classifies a value. Subclasses of Array, Map and Set count as containers. */
export function kindOf(value: unknown): Kind {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return 'primitive'
  if (typeof value === 'function') return 'instance'
  if (types.isProxy(value)) return 'instance'
  if (Array.isArray(value) || types.isMap(value) || types.isSet(value)) return 'container'
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value) || types.isDate(value) || types.isRegExp(value)) return 'container'
  if (isPlainObject(value)) return 'container'
  if (hasMethod(value, 'clone')) {
    if (hasMethod(value, 'manualSeed') || (hasMethod(value, 'getState') && hasMethod(value, 'setState'))) return 'generator'
    const { dims, data } = value as { dims?: unknown; data?: unknown }
    if (ArrayBuffer.isView(data) && (Array.isArray(dims) || ArrayBuffer.isView(dims))) return 'tensor'
  }
  return 'instance'
}

export function cloneMutable(value: unknown, options: CloneOptions): unknown {
  if (options.seen.has(value)) return options.seen.get(value)
  return copy(value, options, (child, name) => {
    if (options.seen.has(child)) return options.seen.get(child)
    const isInstance = kindOf(child) === 'instance'
    if (isInstance || isPlainObject(child)) {
      const decided = options.instance?.(child as object, name) ?? child
      if (isInstance || decided !== child) return decided
    }
    return cloneMutable(child, options)
  })
}

/** A copy that shares nothing mutable with the original except functions. Throws an error naming the class where that is impossible. */
export function deepCopy<T>(value: T): T {
  const options: CloneOptions = { tensorNumelThreshold: Number.POSITIVE_INFINITY, seen: new Map() }
  const visit = (child: unknown): unknown => {
    if (options.seen.has(child)) return options.seen.get(child)
    if (kindOf(child) !== 'instance') return copy(child, options, visit)
    return typeof child === 'function' ? child : copyInstance(child as object, options, visit)
  }
  return visit(value) as T
}

export function isPlainObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** The name of an object's class, for messages. */
export function classNameOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  const owner: unknown = (value as { constructor?: unknown }).constructor
  return typeof owner === 'function' && owner.name !== '' ? owner.name : typeof value
}

/** A class has a `prototype` that cannot be replaced; other functions have one that can be, or none. */
export function isClass(value: unknown): boolean {
  return typeof value === 'function' && Object.getOwnPropertyDescriptor(value, 'prototype')?.writable === false
}

/**
 * The key of an own property that holds a function, unless `isExempt` excuses it. An arrow field or a bound method acts on the object it was
 * made for even when a copy of that object holds it, and nothing distinguishes such a function from a harmless one.
 */
export function ownFunctionOf(
  value: object,
  isExempt: (key: PropertyKey, member: object) => boolean = () => false,
): PropertyKey | undefined {
  return Reflect.ownKeys(value).find((key) => {
    const member: unknown = Object.getOwnPropertyDescriptor(value, key)?.value
    return typeof member === 'function' && !isClass(member) && !isExempt(key, member)
  })
}

function hasMethod(value: object, name: string): boolean {
  return typeof (value as Record<string, unknown>)[name] === 'function'
}

type Visit = (child: unknown, name: string) => unknown

function copy(value: unknown, options: CloneOptions, visit: Visit): unknown {
  const kind = kindOf(value)
  if (kind === 'primitive' || kind === 'instance') return value
  const made = kind === 'container' ? copyContainer(value as object, options, visit) : copyTensorOrGenerator(value as object, kind, options)
  options.seen.set(value, made)
  return made
}

function copyTensorOrGenerator(value: object, kind: Kind, { tensorNumelThreshold }: CloneOptions): unknown {
  const original = value as { clone(): unknown; data: ArrayLike<unknown> }
  if (kind === 'tensor' && original.data.length > tensorNumelThreshold) return value
  const made = original.clone()
  if (made === value) throw new Error(`Expected ${classNameOf(value)}.clone() to return another object, got the same one`)
  return made
}

function copyContainer(value: object, options: CloneOptions, visit: Visit): object {
  if (types.isTypedArray(value)) {
    // Not value.slice(), because a Buffer's slice shares its memory.
    return value.length > options.tensorNumelThreshold ? value : Uint8Array.prototype.slice.call(value)
  }
  if (value instanceof DataView) return new DataView(value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength))
  if (types.isAnyArrayBuffer(value)) return value.byteLength > options.tensorNumelThreshold ? value : value.slice(0)
  const made = emptyLike(value)
  // Registered before its children are copied, so that a cycle ends here.
  options.seen.set(value, made)
  if (types.isMap(value)) for (const [key, entry] of value) (made as Map<unknown, unknown>).set(visit(key, ''), visit(entry, String(key)))
  if (types.isSet(value)) for (const entry of value) (made as Set<unknown>).add(visit(entry, ''))
  copyProperties(value, made, visit)
  return made
}

function emptyLike(value: object): object {
  const prototype: object | null = Object.getPrototypeOf(value)
  if (Array.isArray(value)) return Object.setPrototypeOf([], prototype)
  if (types.isMap(value)) return Object.setPrototypeOf(new Map(), prototype)
  if (types.isSet(value)) return Object.setPrototypeOf(new Set(), prototype)
  if (types.isDate(value)) return Object.setPrototypeOf(new Date(value.getTime()), prototype)
  if (types.isRegExp(value)) return Object.setPrototypeOf(new RegExp(value.source, value.flags), prototype)
  return Object.create(prototype)
}

function copyInstance(value: object, options: CloneOptions, visit: Visit): object {
  const name = classNameOf(value)
  const { clone } = value as { clone?: unknown }
  if (typeof clone === 'function') {
    const made: unknown = clone.call(value)
    if (typeof made !== 'object' || made === null || made === value) {
      throw new Error(`Expected ${name}.clone() to return another object, got ${made === value ? 'the same one' : typeof made}`)
    }
    options.seen.set(value, made)
    return made
  }
  if (types.isProxy(value) || types.isExternal(value) || types.isPromise(value) || types.isWeakMap(value) || types.isWeakSet(value)) {
    throw new Error(`Expected an object that can be copied, got ${name}`)
  }
  const tied = ownFunctionOf(value)
  if (tied !== undefined) {
    const got = `its own function property ${String(tied)}, which on a copy would still act on the original`
    throw new Error(`Expected ${name} to offer clone(), got ${got}`)
  }
  const made: object = Object.create(Object.getPrototypeOf(value))
  options.seen.set(value, made)
  copyProperties(value, made, visit)
  return made
}

function copyProperties(from: object, to: object, visit: Visit): void {
  for (const key of Reflect.ownKeys(from)) {
    const descriptor = Object.getOwnPropertyDescriptor(from, key)
    if (descriptor === undefined) continue
    if ('value' in descriptor) descriptor.value = visit(descriptor.value, String(key))
    Object.defineProperty(to, key, descriptor)
  }
  if (!Object.isExtensible(from)) Object.preventExtensions(to)
}
